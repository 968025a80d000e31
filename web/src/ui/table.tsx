/** Tables that become cards where there is no room, and stay tables for screen readers in both shapes. */
import type { ReactNode } from "react";

export interface Column<T> {
  id: string;
  header: string;
  cell: (row: T) => ReactNode;
  /** The first cell of a card; named by what it holds, not by its header. */
  main?: boolean;
  end?: boolean;
}

interface TableProps<T> {
  caption: string;
  columns: readonly Column<T>[];
  rows: readonly T[];
  rowId: (row: T) => string;
  fresh?: (row: T) => boolean;
  footer?: readonly { id: string; content: ReactNode; end?: boolean; label?: string }[];
}

export function Table<T>({ caption, columns, rows, rowId, fresh, footer }: TableProps<T>) {
  return (
    <div className="table-wrap" role="region" aria-label={caption} tabIndex={0}>
      <table className="table" role="table">
        <caption className="visually-hidden">{caption}</caption>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((column) => (
              <th key={column.id} role="columnheader" scope="col" className={column.end ? "end" : undefined}>
                {column.header === "" ? <span className="visually-hidden">{column.id}</span> : column.header}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row) => (
            <tr key={rowId(row)} role="row" data-row={rowId(row)} data-fresh={fresh?.(row) || undefined}>
              {columns.map((column) => (
                <td
                  key={column.id}
                  role="cell"
                  className={column.main ? "main-cell" : column.end ? "end" : undefined}
                  data-label={column.header}
                >
                  {column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
        {footer !== undefined && (
          <tfoot role="rowgroup">
            <tr role="row">
              {footer.map((cell) => (
                <td key={cell.id} role="cell" className={cell.end ? "end" : "main-cell"} data-label={cell.label}>
                  {cell.content}
                </td>
              ))}
            </tr>
          </tfoot>
        )}
      </table>
    </div>
  );
}

/** The shape of a table while its rows are on the way. */
export function TableSkeleton({ columns, rows = 4 }: { columns: number; rows?: number }) {
  return (
    <div className="table-wrap" aria-hidden="true">
      <table className="table">
        <tbody>
          {Array.from({ length: rows }, (_, row) => (
            <tr key={row}>
              {Array.from({ length: columns }, (_, column) => (
                <td key={column} className={column === 0 ? "main-cell" : undefined}>
                  <span className={`skeleton skeleton-w${String(((row + column) % 3) + 1)}`} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
