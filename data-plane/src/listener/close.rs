//! Every way in which we, not the client, end a connection without an answer to a request.

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// The TLS handshake was not done in time.
    TlsSlow,
    /// There is no TLS in what was sent, or no common version, or the client did not like the certificate.
    TlsFailed,
    /// The client said nothing.
    FirstByte,
    /// A head, or a preface, did not end in time.
    Head,
    /// No further request came in time.
    KeepAlive,
    /// The client took nothing of its answer.
    ClientIdle,
    /// HTTP/2 frames that carry nothing, more than their budget.
    Flood,
    /// An HTTP/2 PING was not answered.
    Ping,
    /// What was sent is not HTTP/2.
    Protocol,
}

impl Close {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::TlsSlow,
        Self::TlsFailed,
        Self::FirstByte,
        Self::Head,
        Self::KeepAlive,
        Self::ClientIdle,
        Self::Flood,
        Self::Ping,
        Self::Protocol,
    ];

    /// Closed label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::TlsSlow => "tls_timeout",
            Self::TlsFailed => "tls_failed",
            Self::FirstByte => "first_byte_timeout",
            Self::Head => "head_timeout",
            Self::KeepAlive => "keep_alive_timeout",
            Self::ClientIdle => "client_idle",
            Self::Flood => "flood",
            Self::Ping => "ping_timeout",
            Self::Protocol => "protocol_error",
        }
    }
}
