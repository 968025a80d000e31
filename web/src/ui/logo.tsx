/** The mark: two gate leaves closing against the stream, and the water they hold. */
export function Logo({ size = 26 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="#0b6b84" />
      <path d="M8 7v10.5l8 5.5V12.5z" fill="#fff" />
      <path d="M24 7v10.5l-8 5.5V12.5z" fill="#a9dbe8" />
      <path
        d="M7 26.2c1.5-1.3 3-1.3 4.5 0s3 1.3 4.5 0 3-1.3 4.5 0 3 1.3 4.5 0"
        fill="none"
        stroke="#fff"
        strokeWidth="1.8"
        strokeLinecap="round"
      />
    </svg>
  );
}
