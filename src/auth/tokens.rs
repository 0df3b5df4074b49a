//! Random secrets that a client carries: session tokens, invitations, the set-up token. Only their hash is stored.
//! Must never write a token to a log; [`token_hash`] is what may be stored and compared.

use std::fmt;

use data_encoding::BASE32_DNSSEC;

/// Random bytes of a token: 256 bits cannot be guessed.
const TOKEN_BYTES: usize = 32;
/// Characters that 32 bytes take in base32 without padding.
const TOKEN_BODY_CHARS: usize = 52;
/// The BLAKE3 key-derivation context of the look-up hash. Changing it would end every session.
const TOKEN_HASH_CONTEXT: &str = "holdfast 2026-01 token lookup";

/// What a token is for; its prefix tells a person and a secret scanner which kind leaked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A session's bearer token: `hf_…`.
    Session,
    /// An invitation: `hfi_…`.
    Invitation,
    /// The one-time set-up token: `hfs_…`.
    Setup,
}

impl TokenKind {
    /// The text in front of the random part.
    pub fn prefix(self) -> &'static str {
        match self {
            TokenKind::Session => "hf_",
            TokenKind::Invitation => "hfi_",
            TokenKind::Setup => "hfs_",
        }
    }
}

/// Why a text is not a token of the expected kind, or none could be made. Says nothing about whether it is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Wrong prefix, length or letters.
    Malformed,
    /// The system gave no random bytes.
    NoRandomness(String),
}

impl TokenError {
    /// The stable code that clients see.
    pub fn code(&self) -> &'static str {
        match self {
            TokenError::Malformed => "token_malformed",
            TokenError::NoRandomness(_) => "no_randomness",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Malformed => write!(f, "this is not a token of the expected form; was it cut when copied?"),
            TokenError::NoRandomness(reason) => write!(f, "the system gave no random bytes: {reason}"),
        }
    }
}

impl std::error::Error for TokenError {}

/// A new token: the prefix and 52 characters of `0-9a-v` (RFC 4648 base32hex, lower case).
pub fn new_token(kind: TokenKind) -> Result<String, TokenError> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| TokenError::NoRandomness(error.to_string()))?;
    Ok(format!("{}{}", kind.prefix(), BASE32_DNSSEC.encode(&bytes)))
}

/// Checks the form only, so that garbage is refused before the store is asked.
pub fn check_token_form(kind: TokenKind, token: &str) -> Result<(), TokenError> {
    let body = token.strip_prefix(kind.prefix()).ok_or(TokenError::Malformed)?;
    // One text per token: upper case would decode to the same bytes and hash to others.
    let lower = body.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
    let decodes = lower && body.len() == TOKEN_BODY_CHARS && BASE32_DNSSEC.decode(body.as_bytes()).is_ok();
    if decodes { Ok(()) } else { Err(TokenError::Malformed) }
}

/// The 16 bytes under which a token is stored and found. One-way: a stolen store holds no usable token.
///
/// Tokens are 256 random bits, so a fast hash suffices; 128 bits of it leave no chance of a collision.
pub fn token_hash(token: &str) -> [u8; 16] {
    let full = blake3::derive_key(TOKEN_HASH_CONTEXT, token.as_bytes());
    let mut short = [0_u8; 16];
    short.copy_from_slice(&full[..16]);
    short
}

/// Compares two hashes in constant time.
pub fn hashes_equal(left: &[u8; 16], right: &[u8; 16]) -> bool {
    left.iter().zip(right).fold(0_u8, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [TokenKind; 3] = [TokenKind::Session, TokenKind::Invitation, TokenKind::Setup];

    #[test]
    fn a_token_has_its_kind_only() {
        for made in KINDS {
            let token = new_token(made).unwrap();
            for asked in KINDS {
                assert_eq!(check_token_form(asked, &token).is_ok(), asked == made, "{token}");
            }
            assert_ne!(new_token(made).unwrap(), token);
        }
    }

    #[test]
    fn damaged_tokens_are_refused() {
        let token = new_token(TokenKind::Session).unwrap();
        let body = &token[3..];
        let damaged = [
            String::new(),
            "hf_".to_owned(),
            body.to_owned(),
            token[..token.len() - 1].to_owned(),
            format!("{token}0"),
            format!(" {token}"),
            token.to_uppercase(),
            format!("hf_{}", body.to_uppercase().replace(|c: char| c.is_ascii_digit(), "V")),
            format!("hf_{}é", &body[..50]),
            format!("hf_{}z", &body[..51]),
            format!("hf_{}v", &body[..51]),
        ];
        for text in damaged {
            assert_eq!(check_token_form(TokenKind::Session, &text), Err(TokenError::Malformed), "{text}");
        }
    }

    #[test]
    fn the_hash_is_pinned() {
        // Stored hashes must be found by every later version.
        let token = format!("hf_{}", "0".repeat(TOKEN_BODY_CHARS));
        assert_eq!(data_encoding::HEXLOWER.encode(&token_hash(&token)), PINNED_HASH);
        assert!(hashes_equal(&token_hash(&token), &token_hash(&token)));
        assert!(!hashes_equal(&token_hash(&token), &token_hash("hf_x")));
    }

    const PINNED_HASH: &str = "8ef15498751f04ac295f7af4236351f7";

    proptest! {
        #[test]
        fn any_text_is_judged_without_panic(text in ".{0,80}") {
            let _ = check_token_form(TokenKind::Session, &text);
            prop_assert_eq!(token_hash(&text).len(), 16);
        }
    }
}
