//! Every bound of the program, named with its unit and a why. A number that limits anything lives here and nowhere else.

// ---- chat ----

/// A message's Markdown. Long enough for a page of text; what is longer is a file.
pub const MESSAGE_BYTES_MAX: usize = 16_384;

/// How many of a sender's latest sends are remembered by client id. It must exceed what one user can have unanswered
/// on all devices together, so that a resend after any interruption is recognised.
pub const SENT_RING: u16 = 256;

/// Senders whose ring is kept in memory (about 10 KiB each); others are read from the state when they send.
pub const SENT_RINGS_CACHED: usize = 4_096;

/// Devices a user may be signed in on; signing in on one more ends the oldest session.
pub const SESSIONS_PER_USER_MAX: usize = 100;

/// A sign-in name.
pub const USERNAME_CHARS_MAX: usize = 64;
/// The name others see.
pub const DISPLAY_NAME_CHARS_MAX: usize = 80;
/// A channel's name.
pub const CHANNEL_NAME_CHARS_MAX: usize = 80;
/// A channel's topic: one line under the name.
pub const TOPIC_CHARS_MAX: usize = 250;
/// An organisation's name.
pub const ORGANISATION_CHARS_MAX: usize = 120;
/// An IANA zone name; the longest one has 32.
pub const TIME_ZONE_CHARS_MAX: usize = 64;
/// What a device calls itself.
pub const DEVICE_CHARS_MAX: usize = 100;
