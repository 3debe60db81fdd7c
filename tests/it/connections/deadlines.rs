//! Every state in which a client, or the app behind it, can leave a connection or a stream, and what ends it there.
//!
//! A new state of a connection is a new line here; the test then asks for a case. The holder of a deadline is named by its
//! place in `src/server`, `src/forward` or `src/login`.

/// How a client speaks to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// HTTP/1.1 in the clear.
    Http1,
    /// HTTP/2 in the clear, with prior knowledge.
    H2c,
    /// HTTP/1.1 over TLS.
    TlsHttp1,
    /// HTTP/2 over TLS, chosen by ALPN.
    TlsHttp2,
}

use Wire::{H2c, Http1, TlsHttp1, TlsHttp2};

const ALL: &[Wire] = &[Http1, H2c, TlsHttp1, TlsHttp2];
const HTTP1: &[Wire] = &[Http1, TlsHttp1];
const HTTP2: &[Wire] = &[H2c, TlsHttp2];
const TLS: &[Wire] = &[TlsHttp1, TlsHttp2];

/// Where a connection or a stream can be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Connected, and not a byte has come.
    Connected,
    /// TLS: part of the ClientHello has come.
    HalfHandshake,
    /// TLS: the handshake is done, and not a byte has come.
    AfterHandshake,
    /// HTTP in the clear where TLS is spoken; the client goes on sending after the answer.
    CleartextOnTls,
    /// HTTP/2: part of the preface has come.
    HalfPreface,
    /// HTTP/2: the preface has come, and no SETTINGS.
    NoSettings,
    /// HTTP/1: an empty line has come, and nothing after it.
    EmptyLine,
    /// Part of the head of a request has come; over HTTP/2 half of a HEADERS frame.
    HalfHead,
    /// The head of a request comes byte by byte; over HTTP/2 HEADERS without an end, in CONTINUATION frames.
    HeadByPieces,
    /// A request was answered, and no other comes.
    Idle,
    /// HTTP/2: the same, with PINGs of the client.
    IdleWithPings,
    /// HTTP/2: the client was told to make no further requests; it neither answers that nor goes.
    Goaway,
    /// HTTP/2: frames that move nothing, without end.
    IdleFrames,
    /// A request was refused while it was being read; the client goes on sending.
    Refused,
    /// The client has ended its side while the app has not answered.
    HalfClosed,
    /// A page of our own waits for the client's window. Over HTTP/1 it fits into the socket.
    OwnPageUnread,
    /// An answer of an app waits for the client, which takes nothing of it.
    AnswerUnread,
    /// The same, and the client takes a few bytes a second.
    AnswerTrickles,
    /// The app has not answered yet and waits for the body of the request, which does not come.
    UploadStalls,
    /// The same, and a few bytes a second come.
    UploadTrickles,
    /// The app has begun to answer, and the body of the request does not come.
    UploadStallsAfterHead,
    /// The app has answered in full, and the body of the request still comes.
    UploadAfterAnswer,
    /// The body of a form for one of our own endpoints does not come.
    FormStalls,
    /// The app does not answer.
    AppMute,
    /// The app has begun to answer and is silent.
    AppSilent,
    /// HTTP/2: the same, and the client does not answer our PING.
    PingUnanswered,
    /// A WebSocket.
    Upgraded,
    /// On `redirect_http`: not a byte has come.
    RedirectConnected,
    /// On `redirect_http`: part of a head has come.
    RedirectHalfHead,
    /// On `redirect_http`: answered; the client goes on sending.
    RedirectAnswered,
}

/// What ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadline {
    /// `[server] header_timeout`, from the first byte (TLS: from the connection on).
    HeaderTimeout,
    /// `[server] idle_timeout`, in which nothing moved.
    IdleTimeout,
    /// `[server] min_rate`, over `http::pace::PERIOD`.
    MinRate,
    /// `idle_timeout`, then `header_timeout` for the answer to a PING.
    Ping,
    /// `idle_timeout`, then two seconds.
    Goaway,
    /// Two seconds, or a megabyte, whichever comes first.
    Linger,
    /// A count, not a time.
    AtOnce,
    /// Ten seconds for the body of a form.
    Form,
    /// `[upstreams.*] response_timeout`.
    ResponseTimeout,
    /// None: the app may take that long.
    None,
}

/// What ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// The connection.
    Connection,
    /// The stream over HTTP/2, the connection over HTTP/1.
    Stream,
    /// Nothing.
    Nothing,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The state.
    pub(super) state: State,
    /// Where there is such a state.
    pub(super) wires: &'static [Wire],
    /// What ends it.
    pub(super) deadline: Deadline,
    /// The place in the code that holds the deadline.
    pub(super) holder: &'static str,
    /// What ends with it.
    pub(super) ends: Ends,
}

const fn row(
    state: State,
    wires: &'static [Wire],
    deadline: Deadline,
    holder: &'static str,
    ends: Ends,
) -> Row {
    Row {
        state,
        wires,
        deadline,
        holder,
        ends,
    }
}

/// All of them.
pub(super) const TABLE: &[Row] = &[
    row(
        State::Connected,
        &[Http1],
        Deadline::IdleTimeout,
        "connection::serve_cleartext",
        Ends::Connection,
    ),
    row(
        State::Connected,
        &[TlsHttp1],
        Deadline::HeaderTimeout,
        "connection::serve_tls",
        Ends::Connection,
    ),
    row(
        State::HalfHandshake,
        TLS,
        Deadline::HeaderTimeout,
        "connection::serve_tls",
        Ends::Connection,
    ),
    row(
        State::AfterHandshake,
        &[TlsHttp1],
        Deadline::IdleTimeout,
        "clock::Clock",
        Ends::Connection,
    ),
    row(
        State::AfterHandshake,
        &[TlsHttp2],
        Deadline::HeaderTimeout,
        "frames::Framed",
        Ends::Connection,
    ),
    row(
        State::CleartextOnTls,
        &[TlsHttp1],
        Deadline::Linger,
        "connection::linger",
        Ends::Connection,
    ),
    row(
        State::HalfPreface,
        &[H2c],
        Deadline::HeaderTimeout,
        "connection::serve_cleartext",
        Ends::Connection,
    ),
    row(
        State::HalfPreface,
        &[TlsHttp2],
        Deadline::HeaderTimeout,
        "frames::Framed",
        Ends::Connection,
    ),
    row(
        State::NoSettings,
        HTTP2,
        Deadline::HeaderTimeout,
        "frames::Framed",
        Ends::Connection,
    ),
    row(
        State::EmptyLine,
        HTTP1,
        Deadline::HeaderTimeout,
        "framing::Framed",
        Ends::Connection,
    ),
    row(
        State::HalfHead,
        HTTP1,
        Deadline::HeaderTimeout,
        "framing::Framed",
        Ends::Connection,
    ),
    row(
        State::HalfHead,
        HTTP2,
        Deadline::HeaderTimeout,
        "frames::Framed",
        Ends::Connection,
    ),
    row(
        State::HeadByPieces,
        HTTP1,
        Deadline::HeaderTimeout,
        "framing::Framed",
        Ends::Connection,
    ),
    row(
        State::HeadByPieces,
        HTTP2,
        Deadline::HeaderTimeout,
        "frames::Framed",
        Ends::Connection,
    ),
    row(
        State::Idle,
        ALL,
        Deadline::IdleTimeout,
        "clock::Clock",
        Ends::Connection,
    ),
    row(
        State::IdleWithPings,
        HTTP2,
        Deadline::IdleTimeout,
        "clock::Clock",
        Ends::Connection,
    ),
    row(
        State::Goaway,
        HTTP2,
        Deadline::Goaway,
        "clock::Clock",
        Ends::Connection,
    ),
    row(
        State::IdleFrames,
        HTTP2,
        Deadline::AtOnce,
        "frames::Scanner",
        Ends::Connection,
    ),
    row(
        State::Refused,
        HTTP1,
        Deadline::Linger,
        "connection::linger",
        Ends::Connection,
    ),
    row(
        State::HalfClosed,
        ALL,
        Deadline::AtOnce,
        "hyper and h2, which end what is under way",
        Ends::Connection,
    ),
    row(
        State::OwnPageUnread,
        HTTP2,
        Deadline::IdleTimeout,
        "http2::Outgoing",
        Ends::Stream,
    ),
    row(
        State::AnswerUnread,
        HTTP1,
        Deadline::IdleTimeout,
        "meter::Metered",
        Ends::Stream,
    ),
    row(
        State::AnswerUnread,
        HTTP2,
        Deadline::IdleTimeout,
        "http2::Outgoing",
        Ends::Stream,
    ),
    row(
        State::AnswerTrickles,
        HTTP1,
        Deadline::MinRate,
        "meter::Metered",
        Ends::Stream,
    ),
    row(
        State::AnswerTrickles,
        HTTP2,
        Deadline::MinRate,
        "http2::Outgoing",
        Ends::Stream,
    ),
    row(
        State::UploadStalls,
        ALL,
        Deadline::IdleTimeout,
        "forward::RequestBody",
        Ends::Stream,
    ),
    row(
        State::UploadTrickles,
        ALL,
        Deadline::MinRate,
        "forward::RequestBody",
        Ends::Stream,
    ),
    row(
        State::UploadStallsAfterHead,
        ALL,
        Deadline::IdleTimeout,
        "forward::RequestBody",
        Ends::Stream,
    ),
    row(
        State::UploadAfterAnswer,
        ALL,
        Deadline::Linger,
        "body::Streaming::read_in_passing",
        Ends::Stream,
    ),
    row(
        State::FormStalls,
        ALL,
        Deadline::Form,
        "login::form",
        Ends::Stream,
    ),
    row(
        State::AppMute,
        ALL,
        Deadline::ResponseTimeout,
        "forward::http1",
        Ends::Stream,
    ),
    row(
        State::AppSilent,
        ALL,
        Deadline::None,
        "the app, and TCP keep-alive where the client is gone",
        Ends::Nothing,
    ),
    row(
        State::PingUnanswered,
        HTTP2,
        Deadline::Ping,
        "clock::Clock",
        Ends::Connection,
    ),
    row(
        State::Upgraded,
        HTTP1,
        Deadline::None,
        "client and app, and TCP keep-alive where one is gone",
        Ends::Nothing,
    ),
    row(
        State::RedirectConnected,
        &[Http1],
        Deadline::HeaderTimeout,
        "redirect::serve",
        Ends::Connection,
    ),
    row(
        State::RedirectHalfHead,
        &[Http1],
        Deadline::HeaderTimeout,
        "redirect::serve",
        Ends::Connection,
    ),
    row(
        State::RedirectAnswered,
        &[Http1],
        Deadline::Linger,
        "connection::linger",
        Ends::Connection,
    ),
];
