//! Login rate limits per account and per address: token buckets in bounded maps. Time is passed in.
//! Must never grow with the number of names an attacker tries, nor forget the account under attack to make room.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;

use crate::limits::{
    LOGIN_ACCOUNT_BURST, LOGIN_ACCOUNT_BYTES_MAX, LOGIN_ACCOUNT_REFILL_SECONDS, LOGIN_ADDRESS_BURST,
    LOGIN_ADDRESS_REFILL_SECONDS, LOGIN_BUCKETS_MAX,
};

/// Tries allowed at once, and how fast they come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketRate {
    /// Tries of a rested bucket. At least 1.
    pub burst: u32,
    /// Seconds until one try comes back. At least 1.
    pub refill_seconds: u32,
}

/// Both limits and how many buckets of each are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginLimits {
    /// Per account name.
    pub account: BucketRate,
    /// Per address (an IPv6 address counts by its /64: one customer has that many).
    pub address: BucketRate,
    /// Buckets remembered, per map.
    pub buckets_max: usize,
}

impl Default for LoginLimits {
    fn default() -> Self {
        LoginLimits {
            account: BucketRate { burst: LOGIN_ACCOUNT_BURST, refill_seconds: LOGIN_ACCOUNT_REFILL_SECONDS },
            address: BucketRate { burst: LOGIN_ADDRESS_BURST, refill_seconds: LOGIN_ADDRESS_REFILL_SECONDS },
            buckets_max: LOGIN_BUCKETS_MAX,
        }
    }
}

impl From<&crate::config::AuthConfig> for LoginLimits {
    fn from(config: &crate::config::AuthConfig) -> Self {
        let mut limits = LoginLimits::default();
        limits.account.burst = config.login_account_burst;
        limits.address.burst = config.login_address_burst;
        limits
    }
}

/// May this login be tried?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginDecision {
    /// Yes. One try was taken; report [`succeeded`](LoginLimiter::succeeded) or
    /// [`abandoned`](LoginLimiter::abandoned) when it was not a failure.
    Allowed,
    /// Not now.
    Limited {
        /// Seconds after which one try is allowed again, at least 1.
        retry_after_seconds: u64,
    },
}

/// Counts tries when they begin, so that a thousand parallel guesses do not all pass before the first has failed.
#[derive(Debug)]
pub struct LoginLimiter {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    accounts: Buckets<String>,
    addresses: Buckets<IpAddr>,
}

impl LoginLimiter {
    /// A limiter that has seen nothing.
    pub fn new(limits: LoginLimits) -> LoginLimiter {
        LoginLimiter {
            inner: Mutex::new(Inner {
                accounts: Buckets::new(limits.account, limits.buckets_max),
                addresses: Buckets::new(limits.address, limits.buckets_max),
            }),
        }
    }

    /// Asks for one try at `now_ms` (any steady milliseconds). A refusal takes nothing from either bucket.
    pub fn attempt(&self, account: &str, address: IpAddr, now_ms: u64) -> LoginDecision {
        let (account, address) = (account_key(account), address_key(address));
        let mut inner = self.inner.lock();
        // The address first: one that is refused must not make entries for the names it tries.
        if let Some(retry_after_seconds) = inner.addresses.wait_seconds(&address, now_ms) {
            return LoginDecision::Limited { retry_after_seconds };
        }
        if let Some(retry_after_seconds) = inner.accounts.wait_seconds(&account, now_ms) {
            return LoginDecision::Limited { retry_after_seconds };
        }
        inner.addresses.take(address, now_ms);
        inner.accounts.take(account, now_ms);
        LoginDecision::Allowed
    }

    /// The login was right: the account's bucket is full again, and the address gets its try back.
    pub fn succeeded(&self, account: &str, address: IpAddr, now_ms: u64) {
        let mut inner = self.inner.lock();
        inner.accounts.forget(&account_key(account));
        inner.addresses.give_back(&address_key(address), now_ms);
    }

    /// The login was not judged (busy, connection gone): both get the try back.
    pub fn abandoned(&self, account: &str, address: IpAddr, now_ms: u64) {
        let mut inner = self.inner.lock();
        inner.accounts.give_back(&account_key(account), now_ms);
        inner.addresses.give_back(&address_key(address), now_ms);
    }

    /// Buckets remembered: accounts, addresses.
    pub fn remembered(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.accounts.map.len(), inner.addresses.map.len())
    }
}

impl Default for LoginLimiter {
    fn default() -> Self {
        LoginLimiter::new(LoginLimits::default())
    }
}

fn account_key(account: &str) -> String {
    let lower = account.trim().to_lowercase();
    let mut end = lower.len().min(LOGIN_ACCOUNT_BYTES_MAX);
    while !lower.is_char_boundary(end) {
        end -= 1;
    }
    lower[..end].to_owned()
}

fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// One bucket as its debt: the milliseconds of refill it still needs to be full. It is full again at `full_at_ms`.
///
/// That one number is the whole state: tokens = burst - ceil((full_at - now) / refill).
#[derive(Debug)]
struct Buckets<K> {
    rate: BucketRate,
    buckets_max: usize,
    map: HashMap<K, u64>,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(rate: BucketRate, buckets_max: usize) -> Self {
        let rate = BucketRate { burst: rate.burst.max(1), refill_seconds: rate.refill_seconds.max(1) };
        Buckets { rate, buckets_max: buckets_max.max(1), map: HashMap::new() }
    }

    fn refill_ms(&self) -> u64 {
        u64::from(self.rate.refill_seconds) * 1000
    }

    /// Seconds until a try is allowed; `None` when it is now.
    fn wait_seconds(&self, key: &K, now_ms: u64) -> Option<u64> {
        let debt_ms = self.map.get(key).copied().unwrap_or(0).saturating_sub(now_ms);
        let allowed_debt_ms = u64::from(self.rate.burst - 1) * self.refill_ms();
        (debt_ms > allowed_debt_ms).then(|| (debt_ms - allowed_debt_ms).div_ceil(1000).max(1))
    }

    fn take(&mut self, key: K, now_ms: u64) {
        if self.map.len() >= self.buckets_max && !self.map.contains_key(&key) {
            self.make_room(now_ms);
        }
        let refill_ms = self.refill_ms();
        let full_at_ms = self.map.entry(key).or_insert(now_ms);
        *full_at_ms = (*full_at_ms).max(now_ms).saturating_add(refill_ms);
    }

    fn give_back(&mut self, key: &K, now_ms: u64) {
        let refill_ms = self.refill_ms();
        if let Some(full_at_ms) = self.map.get_mut(key) {
            *full_at_ms = full_at_ms.saturating_sub(refill_ms);
            if *full_at_ms <= now_ms {
                self.map.remove(key);
            }
        }
    }

    fn forget(&mut self, key: &K) {
        self.map.remove(key);
    }

    /// Forgets the recovered buckets, else the eighth with the least debt: names tried once make room, the account that is
    /// really attacked stays. One pass frees an eighth, so the cost per try stays small.
    fn make_room(&mut self, now_ms: u64) {
        self.map.retain(|_, full_at_ms| *full_at_ms > now_ms);
        if self.map.len() < self.buckets_max {
            return;
        }
        let mut debts: Vec<u64> = self.map.values().copied().collect();
        let count = (self.map.len() / 8).max(1);
        let (_, threshold, _) = debts.select_nth_unstable(count - 1);
        let threshold = *threshold;
        let mut left = count;
        self.map.retain(|_, full_at_ms| {
            let goes = left > 0 && *full_at_ms <= threshold;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn limiter(account_burst: u32, address_burst: u32, buckets_max: usize) -> LoginLimiter {
        LoginLimiter::new(LoginLimits {
            account: BucketRate { burst: account_burst, refill_seconds: 10 },
            address: BucketRate { burst: address_burst, refill_seconds: 1 },
            buckets_max,
        })
    }

    fn limited(retry_after_seconds: u64) -> LoginDecision {
        LoginDecision::Limited { retry_after_seconds }
    }

    #[test]
    fn failures_fill_the_account_and_time_empties_it() {
        let limiter = limiter(3, 100, 10);
        for _ in 0..3 {
            assert_eq!(limiter.attempt("Li.Lei", address(1), 0), LoginDecision::Allowed);
        }
        assert_eq!(limiter.attempt("li.lei ", address(2), 0), limited(10), "another address and spelling do not help");
        assert_eq!(limiter.attempt("li.lei", address(1), 9_001), limited(1));
        assert_eq!(limiter.attempt("li.lei", address(1), 10_000), LoginDecision::Allowed);
        assert_eq!(limiter.attempt("li.lei", address(1), 10_000), limited(10));
        assert_eq!(limiter.attempt("han.meimei", address(1), 10_000), LoginDecision::Allowed);
    }

    #[test]
    fn success_resets_the_account_and_returns_the_try() {
        let limiter = limiter(3, 2, 10);
        for _ in 0..20 {
            assert_eq!(limiter.attempt("a", address(1), 0), LoginDecision::Allowed);
            limiter.succeeded("a", address(1), 0);
        }
        assert_eq!(limiter.remembered(), (0, 0));
        assert_eq!(limiter.attempt("a", address(1), 0), LoginDecision::Allowed);
        assert_eq!(limiter.attempt("a", address(1), 0), LoginDecision::Allowed);
        assert_eq!(limiter.attempt("a", address(1), 0), limited(1), "the address is used up");
        limiter.abandoned("a", address(1), 0);
        assert_eq!(limiter.attempt("a", address(1), 0), LoginDecision::Allowed);
    }

    #[test]
    fn a_refused_address_makes_no_entries() {
        let limiter = limiter(3, 5, 1000);
        for number in 0..500 {
            let decision = limiter.attempt(&format!("name{number}"), address(9), 0);
            assert_eq!(decision == LoginDecision::Allowed, number < 5);
        }
        assert_eq!(limiter.remembered(), (5, 1));
    }

    #[test]
    fn one_ipv6_customer_is_one_address() {
        let limiter = limiter(100, 2, 10);
        let host = |last: u16| IpAddr::from([0x2001, 0xdb8, 1, 2, 0, 0, 0, last]);
        assert_eq!(limiter.attempt("a", host(1), 0), LoginDecision::Allowed);
        assert_eq!(limiter.attempt("a", host(2), 0), LoginDecision::Allowed);
        assert_eq!(limiter.attempt("a", host(3), 0), limited(1));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        limiter.attempt("b", mapped, 0);
        limiter.attempt("b", address(1), 0);
        assert_eq!(limiter.attempt("b", address(1), 0), limited(1), "a mapped address is the same address");
    }

    #[test]
    fn random_names_do_not_flush_the_account_under_attack() {
        let limiter = limiter(5, u32::MAX, 64);
        for _ in 0..5 {
            limiter.attempt("target", address(1), 0);
        }
        for number in 0..10_000 {
            limiter.attempt(&format!("random{number}"), address(2), 1);
        }
        assert!(limiter.remembered().0 <= 64);
        assert!(matches!(limiter.attempt("target", address(1), 2), LoginDecision::Limited { .. }));
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let long = "磐".repeat(500);
        assert!(account_key(&long).len() <= LOGIN_ACCOUNT_BYTES_MAX);
        assert!(account_key(&long).starts_with('磐'));
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_the_wait_is_honest(
            tries in prop::collection::vec((0_u8..40, 0_u8..40, 0_u64..5_000), 1..400)
        ) {
            let limiter = limiter(3, 6, 16);
            let mut now = 0;
            for (name, host, pause) in tries {
                now += pause;
                let name = name.to_string();
                if let LoginDecision::Limited { retry_after_seconds } = limiter.attempt(&name, address(host), now) {
                    prop_assert!(retry_after_seconds >= 1);
                    // Waiting as told is enough for the bucket that refused; the other may refuse next, but not for ever.
                    let mut later = now;
                    let mut waits = 0;
                    while let LoginDecision::Limited { retry_after_seconds } = limiter.attempt(&name, address(host), later) {
                        later += retry_after_seconds * 1000;
                        waits += 1;
                        prop_assert!(waits <= 2);
                    }
                    now = later;
                }
                let (accounts, addresses) = limiter.remembered();
                prop_assert!(accounts <= 16 && addresses <= 16);
            }
        }
    }
}
