//! Passwords: the policy, and argon2id hashes computed on blocking threads, few at a time.
//! Must never keep a password, nor tell by its timing whether a user exists.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use super::common_passwords::is_common;
use crate::limits::{
    PASSWORD_BUSY_RETRY_AFTER_SECONDS, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN,
    PASSWORD_HASH_CONCURRENCY, PASSWORD_HASH_LANES, PASSWORD_HASH_MEMORY_KIB, PASSWORD_HASH_PASSES,
    PASSWORD_HASH_WAITING_MAX,
};

/// Why a new password is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordRefusal {
    /// Fewer characters than the policy wants.
    TooShort {
        /// The fewest characters allowed.
        chars_min: usize,
    },
    /// More than 256 characters or 1,024 bytes.
    TooLong,
    /// It is the user name, or holds little else.
    SameAsUsername,
    /// It is one of the passwords that everybody tries first.
    TooCommon,
}

impl PasswordRefusal {
    /// The stable code that clients see.
    pub fn code(self) -> &'static str {
        match self {
            PasswordRefusal::TooShort { .. } => "password_too_short",
            PasswordRefusal::TooLong => "password_too_long",
            PasswordRefusal::SameAsUsername => "password_is_username",
            PasswordRefusal::TooCommon => "password_common",
        }
    }
}

impl fmt::Display for PasswordRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordRefusal::TooShort { chars_min } => write!(f, "the password needs at least {chars_min} characters"),
            PasswordRefusal::TooLong => write!(f, "the password may have at most {PASSWORD_CHARS_MAX} characters"),
            PasswordRefusal::SameAsUsername => write!(f, "the password must not be the user name"),
            PasswordRefusal::TooCommon => write!(f, "this password is among the first that anybody would try"),
        }
    }
}

impl std::error::Error for PasswordRefusal {}

/// The policy for new passwords. A password that is checked at login is not judged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// Fewest characters; never below 10.
    pub chars_min: usize,
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        PasswordPolicy { chars_min: PASSWORD_CHARS_MIN }
    }
}

impl From<&crate::config::AuthConfig> for PasswordPolicy {
    fn from(config: &crate::config::AuthConfig) -> Self {
        PasswordPolicy { chars_min: config.password_chars_min }
    }
}

impl PasswordPolicy {
    /// Judges `password` for the user named `username`.
    pub fn check(&self, username: &str, password: &str) -> Result<(), PasswordRefusal> {
        // Bytes first: counting the characters of a megabyte is work an attacker should not get.
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordRefusal::TooLong);
        }
        let chars = password.chars().count();
        let chars_min = self.chars_min.max(PASSWORD_CHARS_MIN);
        if chars < chars_min {
            return Err(PasswordRefusal::TooShort { chars_min });
        }
        if chars > PASSWORD_CHARS_MAX {
            return Err(PasswordRefusal::TooLong);
        }
        let (password, username) = (password.to_lowercase(), username.trim().to_lowercase());
        let bare = password.trim_matches(|c: char| !c.is_alphanumeric());
        if !username.is_empty() && (bare == username || password == username.repeat(2)) {
            return Err(PasswordRefusal::SameAsUsername);
        }
        if is_common(&password) { Err(PasswordRefusal::TooCommon) } else { Ok(()) }
    }
}

/// Why a password could not be hashed or verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordError {
    /// Too many logins wait already.
    Busy {
        /// Seconds to wait before the next try.
        retry_after_seconds: u64,
    },
    /// The stored hash cannot be read, the system gave no randomness, or the process is ending.
    Internal(String),
}

impl PasswordError {
    /// The stable code that clients see.
    pub fn code(&self) -> &'static str {
        match self {
            PasswordError::Busy { .. } => "busy",
            PasswordError::Internal(_) => "internal",
        }
    }
}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordError::Busy { retry_after_seconds } => {
                write!(f, "too many logins at once; try again in {retry_after_seconds} seconds")
            }
            PasswordError::Internal(reason) => write!(f, "the password could not be checked: {reason}"),
        }
    }
}

impl std::error::Error for PasswordError {}

/// What the verification of a password found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordVerdict {
    /// Whether the password is right.
    pub correct: bool,
    /// Whether it is right and its hash uses older parameters: hash it anew and store that.
    pub rehash: bool,
}

/// How much hashing happens at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordLoad {
    /// Hashes computed at once.
    pub concurrent: usize,
    /// Callers that wait for one; beyond it: [`PasswordError::Busy`].
    pub waiting_max: usize,
}

impl Default for PasswordLoad {
    fn default() -> Self {
        PasswordLoad { concurrent: PASSWORD_HASH_CONCURRENCY, waiting_max: PASSWORD_HASH_WAITING_MAX }
    }
}

/// Hashes and verifies. Cheap to clone; all clones share one queue.
#[derive(Clone, Debug)]
pub struct Passwords {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    argon2: Argon2<'static>,
    /// Verified against when the user does not exist, so that both answers cost the same.
    dummy_phc: String,
    permits: Arc<Semaphore>,
    /// Callers inside, waiting or computing.
    inside: AtomicUsize,
    inside_max: usize,
}

/// Leaves the queue on drop, also when the caller's future is dropped while it waits.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Passwords {
    /// Prepares the hasher. Computes one hash (about 30 ms): call it at start.
    pub fn new(load: PasswordLoad) -> Result<Passwords, PasswordError> {
        let params =
            Params::new(PASSWORD_HASH_MEMORY_KIB, PASSWORD_HASH_PASSES, PASSWORD_HASH_LANES, None).map_err(internal)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let dummy_phc = hash_now(&argon2, "no user has this password")?;
        let concurrent = load.concurrent.max(1);
        Ok(Passwords {
            shared: Arc::new(Shared {
                argon2,
                dummy_phc,
                permits: Arc::new(Semaphore::new(concurrent)),
                inside: AtomicUsize::new(0),
                inside_max: concurrent + load.waiting_max,
            }),
        })
    }

    /// Hashes a new password (judge it with [`PasswordPolicy::check`] first) to a PHC string: `$argon2id$v=19$…`.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.run(move |shared| hash_now(&shared.argon2, &password)).await
    }

    /// Verifies `password` against the stored PHC string; `None` (no such user) costs the same and is never correct.
    pub async fn verify(&self, password: String, stored_phc: Option<String>) -> Result<PasswordVerdict, PasswordError> {
        self.run(move |shared| verify_now(shared, &password, stored_phc.as_deref())).await
    }

    async fn run<T, F>(&self, work: F) -> Result<T, PasswordError>
    where
        T: Send + 'static,
        F: FnOnce(&Shared) -> Result<T, PasswordError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let entered = shared.inside.fetch_add(1, Ordering::AcqRel);
        let place = Place(&shared.inside);
        if entered >= shared.inside_max {
            return Err(PasswordError::Busy { retry_after_seconds: PASSWORD_BUSY_RETRY_AFTER_SECONDS });
        }
        let permit = Arc::clone(&shared.permits).acquire_owned().await.map_err(internal)?;
        let worker = Arc::clone(&shared);
        // The permit goes into the thread: a caller that hangs up must not let a third hash begin.
        let result = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&worker)
        })
        .await
        .map_err(internal)?;
        drop(place);
        result
    }
}

fn internal(reason: impl fmt::Display) -> PasswordError {
    PasswordError::Internal(reason.to_string())
}

fn hash_now(argon2: &Argon2<'_>, password: &str) -> Result<String, PasswordError> {
    let mut salt_bytes = [0_u8; 16];
    getrandom::fill(&mut salt_bytes).map_err(internal)?;
    let salt = SaltString::encode_b64(&salt_bytes).map_err(internal)?;
    Ok(argon2.hash_password(password.as_bytes(), &salt).map_err(internal)?.to_string())
}

fn verify_now(shared: &Shared, password: &str, stored_phc: Option<&str>) -> Result<PasswordVerdict, PasswordError> {
    let phc = PasswordHash::new(stored_phc.unwrap_or(&shared.dummy_phc)).map_err(internal)?;
    if phc.hash.is_none() {
        // Without this a damaged record would read as a wrong password, and nobody would look for the damage.
        return Err(internal("the stored hash is cut short"));
    }
    // A password beyond the bound cannot have been set; the work is done all the same, on an equally long stand-in.
    let tried = if password.len() > PASSWORD_BYTES_MAX { "too long" } else { password };
    let matches = match shared.argon2.verify_password(tried.as_bytes(), &phc) {
        Ok(()) => true,
        Err(argon2::password_hash::Error::Password) => false,
        Err(error) => return Err(internal(error)),
    };
    let correct = matches && stored_phc.is_some() && password.len() <= PASSWORD_BYTES_MAX;
    let current = Params::try_from(&phc).is_ok_and(|params| {
        let ours = shared.argon2.params();
        (params.m_cost(), params.t_cost(), params.p_cost()) == (ours.m_cost(), ours.t_cost(), ours.p_cost())
    });
    Ok(PasswordVerdict { correct, rehash: correct && !current })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRONG: PasswordVerdict = PasswordVerdict { correct: false, rehash: false };
    const RIGHT: PasswordVerdict = PasswordVerdict { correct: true, rehash: false };

    #[tokio::test]
    async fn the_right_password_is_correct_and_no_other() {
        let passwords = Passwords::new(PasswordLoad::default()).unwrap();
        let phc = passwords.hash("三只蓝色的水壶在跳舞".to_owned()).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        let verify = |password: &str, stored: Option<String>| passwords.verify(password.to_owned(), stored);
        assert_eq!(verify("三只蓝色的水壶在跳舞", Some(phc.clone())).await.unwrap(), RIGHT);
        assert_eq!(verify("三只蓝色的水壶在跳", Some(phc.clone())).await.unwrap(), WRONG);
        assert_eq!(verify(&"x".repeat(5000), Some(phc.clone())).await.unwrap(), WRONG);
        assert_ne!(passwords.hash("三只蓝色的水壶在跳舞".to_owned()).await.unwrap(), phc, "salted");
    }

    #[tokio::test]
    async fn an_unknown_user_is_never_correct() {
        let passwords = Passwords::new(PasswordLoad::default()).unwrap();
        for tried in ["no user has this password", "anything else"] {
            assert_eq!(passwords.verify(tried.to_owned(), None).await.unwrap(), WRONG);
        }
        let too_long_dummy = passwords.hash("too long".to_owned()).await.unwrap();
        let verdict = passwords.verify("y".repeat(2000), Some(too_long_dummy)).await.unwrap();
        assert_eq!(verdict, WRONG, "the stand-in for an overlong password opens nothing");
    }

    #[tokio::test]
    async fn older_parameters_ask_for_a_new_hash() {
        let passwords = Passwords::new(PasswordLoad::default()).unwrap();
        let old = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8 * 1024, 1, 1, None).unwrap());
        let phc = hash_now(&old, "three blue kettles").unwrap();
        let verdict = passwords.verify("three blue kettles".to_owned(), Some(phc.clone())).await.unwrap();
        assert_eq!(verdict, PasswordVerdict { correct: true, rehash: true });
        assert_eq!(passwords.verify("wrong".to_owned(), Some(phc)).await.unwrap(), WRONG);
        let damaged = passwords.verify("x".to_owned(), Some("$argon2id$broken".to_owned())).await;
        assert!(matches!(damaged, Err(PasswordError::Internal(_))));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_login_storm_is_answered_busy_and_the_queue_recovers() {
        let passwords = Passwords::new(PasswordLoad { concurrent: 1, waiting_max: 2 }).unwrap();
        let storm: Vec<_> = (0..20)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.verify("guess".to_owned(), None).await })
            })
            .collect();
        let (mut judged, mut busy) = (0, 0);
        for login in storm {
            match login.await.unwrap() {
                Ok(verdict) => {
                    assert_eq!(verdict, WRONG);
                    judged += 1;
                }
                Err(error) => {
                    assert_eq!(error.code(), "busy");
                    assert_eq!(error, PasswordError::Busy { retry_after_seconds: PASSWORD_BUSY_RETRY_AFTER_SECONDS });
                    busy += 1;
                }
            }
        }
        assert!(judged >= 3, "those that found a place are judged: {judged}");
        assert_eq!(judged + busy, 20);
        assert_eq!(passwords.shared.inside.load(Ordering::Acquire), 0);
        assert_eq!(passwords.verify("guess".to_owned(), None).await.unwrap(), WRONG);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let passwords = Passwords::new(PasswordLoad { concurrent: 1, waiting_max: 1 }).unwrap();
        let _held = Arc::clone(&passwords.shared.permits).acquire_owned().await.unwrap();
        let mut first = Box::pin(passwords.verify("a".to_owned(), None));
        let mut second = Box::pin(passwords.verify("b".to_owned(), None));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(passwords.verify("c".to_owned(), None).await.unwrap_err().code(), "busy");
        drop(first);
        let mut third = Box::pin(passwords.verify("d".to_owned(), None));
        assert!(futures_util::poll!(&mut third).is_pending(), "a caller that hangs up leaves its place");
    }

    #[test]
    fn the_policy_names_each_refusal() {
        let policy = PasswordPolicy::default();
        let code = |username: &str, password: &str| policy.check(username, password).err().map(PasswordRefusal::code);
        assert_eq!(code("lilei", "九个字符还是不够长"), Some("password_too_short"));
        assert_eq!(code("lilei", "十个字符现在就够长了"), None);
        assert_eq!(code("lilei", &"kettle ".repeat(40)), Some("password_too_long"));
        assert_eq!(code("lilei", &"水".repeat(400)), Some("password_too_long"));
        assert_eq!(code("Li.Lei.Beijing", "li.lei.beijing"), Some("password_is_username"));
        assert_eq!(code("hanmei", "hanmeihanmei"), Some("password_is_username"));
        assert_eq!(code("li.lei.beijing", "!li.lei.beijing!"), Some("password_is_username"));
        assert_eq!(code("lilei", "Password123!"), Some("password_common"));
        assert_eq!(code("lilei", "three blue kettles"), None);
        assert_eq!(
            PasswordPolicy { chars_min: 1 }.check("a", "short"),
            Err(PasswordRefusal::TooShort { chars_min: 10 })
        );
        assert_eq!(
            PasswordPolicy { chars_min: 14 }.check("a", "xK9#mPq2vL"),
            Err(PasswordRefusal::TooShort { chars_min: 14 })
        );
    }
}
