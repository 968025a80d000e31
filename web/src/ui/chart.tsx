/** Columns over time, drawn in SVG; the table beside it says the same in figures. */

export interface Bar {
  label: string;
  total: number;
  bad: number;
}

const WIDTH = 600;
const HEIGHT = 100;

export function Chart({ bars, label }: { bars: readonly Bar[]; label: string }) {
  const top = Math.max(1, ...bars.map((bar) => bar.total));
  const step = WIDTH / Math.max(1, bars.length);
  const width = Math.max(1, Math.min(step * 0.72, 26));
  return (
    <svg
      className="chart"
      viewBox={`0 0 ${String(WIDTH)} ${String(HEIGHT)}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      {[0, 0.5, 1].map((line) => (
        <line key={line} className="grid" x1="0" x2={WIDTH} y1={HEIGHT * line} y2={HEIGHT * line} />
      ))}
      {bars.map((bar, index) => {
        const x = index * step + (step - width) / 2;
        const height = (bar.total / top) * (HEIGHT - 4);
        const bad = (bar.bad / top) * (HEIGHT - 4);
        return (
          <g key={bar.label}>
            <title>{bar.label}</title>
            <rect className="bar" x={x} y={HEIGHT - height} width={width} height={Math.max(0, height - bad)} />
            <rect className="bar-bad" x={x} y={HEIGHT - bad} width={width} height={bad} />
          </g>
        );
      })}
    </svg>
  );
}
