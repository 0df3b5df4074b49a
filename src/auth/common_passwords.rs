//! The most common passwords, as bases: a password that is one of these, or one with a few digits or signs around it, is
//! refused. Short, because it stops what everybody tries first; the login rate limit stops the rest.

/// Lower-case bases, sorted: digits and letters that lead every public list of leaked passwords, English and Chinese.
const COMMON: [&str; 218] = [
    "0123456789",
    "0987654321",
    "1111111111",
    "11112222",
    "112233",
    "1122334455",
    "1212121212",
    "1231231231",
    "123123123",
    "1234512345",
    "12345678",
    "123456789",
    "1234567890",
    "12345678910",
    "123456789a",
    "123456a",
    "1234qwer",
    "12qwaszx",
    "1314520",
    "147258369",
    "159357",
    "159753",
    "1a2b3c4d",
    "1a2b3c4d5e",
    "1q2w3e",
    "1q2w3e4r",
    "1q2w3e4r5t",
    "1q2w3e4r5t6y",
    "1qaz2wsx",
    "1qaz2wsx3edc",
    "1qazxsw2",
    "5201314",
    "741852963",
    "789456123",
    "987654321",
    "9876543210",
    "a123456",
    "a1b2c3d4",
    "a1b2c3d4e5",
    "aa123456",
    "aaaaaaaaaa",
    "abc123",
    "abc123456",
    "abcabcabc",
    "abcd1234",
    "abcdefg",
    "abcdefgh",
    "abcdefghij",
    "access",
    "admin",
    "admin123",
    "administrator",
    "adminadmin",
    "andrew",
    "anthony",
    "apple",
    "asd123456",
    "asdasdasd",
    "asdf1234",
    "asdfasdf",
    "asdfgh",
    "asdfghjk",
    "asdfghjkl",
    "asdqwe123",
    "ashley",
    "babygirl",
    "banana",
    "baseball",
    "basketball",
    "batman",
    "beautiful",
    "buster",
    "butterfly",
    "changeit",
    "changeme",
    "charlie",
    "charlotte",
    "cheese",
    "chelsea",
    "chocolate",
    "company",
    "computer",
    "cookie",
    "correcthorsebatterystaple",
    "daniel",
    "default",
    "diamond",
    "donald",
    "dragon",
    "enterprise",
    "eternity",
    "family",
    "ferrari",
    "flower",
    "football",
    "forever",
    "freedom",
    "friends",
    "fuckyou",
    "george",
    "ginger",
    "google",
    "guest",
    "hannah",
    "harley",
    "hello",
    "helloworld",
    "holdfast",
    "hunter",
    "iloveu",
    "iloveyou",
    "internet",
    "jasmine",
    "jennifer",
    "jessica",
    "jordan",
    "joshua",
    "justin",
    "killer",
    "letmein",
    "liverpool",
    "login",
    "lovely",
    "loveme",
    "maggie",
    "manager",
    "master",
    "matrix",
    "matthew",
    "mercedes",
    "michael",
    "michelle",
    "microsoft",
    "monday",
    "monkey",
    "monster",
    "mustang",
    "mynoob",
    "nicole",
    "ninja",
    "nothing",
    "oracle",
    "p@ssw0rd",
    "p@ssword",
    "panxin",
    "pa$$word",
    "pass",
    "pass1234",
    "passw0rd",
    "passwd",
    "password",
    "password123",
    "passwordpassword",
    "patrick",
    "pepper",
    "pokemon",
    "princess",
    "purple",
    "q1w2e3r4",
    "q1w2e3r4t5",
    "qaz123",
    "qazwsx",
    "qazwsxedc",
    "qq123456",
    "qq123456789",
    "qwaszx",
    "qwe123",
    "qwe123456",
    "qweasd",
    "qweasdzxc",
    "qweqweqwe",
    "qwer1234",
    "qwerasdf",
    "qwerqwer",
    "qwert",
    "qwerty",
    "qwerty123456",
    "qwertyqwerty",
    "qwertyu",
    "qwertyui",
    "qwertyuiop",
    "rainbow",
    "robert",
    "root",
    "samsung",
    "school",
    "secret",
    "server",
    "shadow",
    "snoopy",
    "soccer",
    "spring",
    "starwars",
    "summer",
    "sunshine",
    "superman",
    "superuser",
    "system",
    "test",
    "testtest",
    "thomas",
    "tigger",
    "trustno1",
    "user",
    "welcome",
    "welcome1",
    "whatever",
    "william",
    "winter",
    "woaini",
    "woaini1314",
    "woaini520",
    "xiaoming",
    "zhang123",
    "zxc123456",
    "zxcvbn",
    "zxcvbnm",
    "zzzzzzzzzz",
];

/// Letters and digits that a person may add to a base without making it hard to guess: a year and a sign or two.
const DECORATION_CHARS_MAX: usize = 6;

/// Whether `password` is common: in the list, the list's base with up to 6 digits or signs around it, or hardly varied.
pub(super) fn is_common(password: &str) -> bool {
    let lower = password.to_lowercase();
    let base = lower.trim_matches(|c: char| !c.is_alphabetic());
    let decoration = lower.chars().count() - base.chars().count();
    in_list(&lower) || (decoration <= DECORATION_CHARS_MAX && in_list(base)) || is_monotonous(&lower)
}

fn in_list(text: &str) -> bool {
    COMMON.contains(&text)
}

/// At most two different characters, or each one step from the last (`3456789012`, `lkjihgfedc`).
fn is_monotonous(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    let mut distinct = chars.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let step = |from: char, to: char| match (from, to) {
        ('9', '0') => 1,
        ('0', '9') => -1,
        _ => i64::from(u32::from(to)) - i64::from(u32::from(from)),
    };
    let all_steps = |wanted: i64| chars.windows(2).all(|pair| step(pair[0], pair[1]) == wanted);
    distinct.len() <= 2 || all_steps(1) || all_steps(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_no_double() {
        let mut sorted = COMMON.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), COMMON.len());
        assert!(COMMON.iter().all(|word| *word == word.to_lowercase()));
    }

    #[test]
    fn common_ones_and_their_variants_are_found() {
        for password in [
            "Password123",
            "PASSWORD2024!",
            "1234567890",
            "woaini1314",
            "qwertyuiop",
            "2024holdfast",
            "aaaaaaaaaaaa",
            "ababababab",
            "3456789012",
            "9876543210",
            "abcdefghijkl",
            "Welcome1!!",
            "123456789a",
            "!!letmein2024",
        ] {
            assert!(is_common(password), "{password}");
        }
    }

    #[test]
    fn ordinary_phrases_are_not() {
        for password in [
            "three blue kettles",
            "我的猫喜欢晒太阳也喜欢鱼",
            "xK9#mPq2vL",
            "passwordless-entry-7",
            "rootbeer-float-19",
        ] {
            assert!(!is_common(password), "{password}");
        }
    }
}
