//! What a member's address, name and password may be.

use crate::model::error::Violation;
use crate::sensitive::Sensitive;

/// Characters. Long beats complicated (NIST SP 800-63B): there are no rules about digits and signs.
const SHORTEST: usize = 12;
/// Bytes; far above any passphrase, far below what would make hashing a burden.
const LONGEST: usize = 1024;
/// RFC 5321 allows no longer path.
const EMAIL: usize = 254;
const NAME: usize = 100;

/// Lower case and without surrounding space, or what is wrong with it.
pub fn email(pointer: &str, text: &str) -> Result<String, Violation> {
    let text = text.trim().to_lowercase();
    let plain = text.chars().all(|character| !character.is_whitespace() && !character.is_control());
    let halves = text.split_once('@').is_some_and(|(left, right)| {
        !left.is_empty()
            && !right.is_empty()
            && !right.contains('@')
            && !right.starts_with('.')
            && !right.ends_with('.')
    });
    if plain && halves && text.len() <= EMAIL {
        Ok(text)
    } else {
        Err(Violation::invalid(pointer, "must be an email address, such as ada@example.com"))
    }
}

/// Without surrounding space, or what is wrong with it.
pub fn display_name(pointer: &str, text: &str) -> Result<String, Violation> {
    let text = text.trim();
    if text.chars().any(char::is_control) || text.chars().count() > NAME {
        return Err(Violation::invalid(
            pointer,
            format!("must be at most {NAME} characters, none of them control characters"),
        ));
    }
    Ok(text.to_owned())
}

/// Whether it may be set as a password. Never says more than its length.
pub fn new_password(pointer: &str, password: &Sensitive) -> Result<(), Violation> {
    let text = password.expose();
    if text.chars().count() < SHORTEST || text.len() > LONGEST {
        return Err(Violation::invalid(
            pointer,
            format!("must have at least {SHORTEST} characters, at most {LONGEST} bytes"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_lower_case_and_have_two_halves() {
        assert_eq!(email("/email", " Ada@Example.com ").unwrap(), "ada@example.com");
        assert_eq!(email("/email", "dev@localhost").unwrap(), "dev@localhost");
        for wrong in
            ["", "ada", "@example.com", "ada@", "a@b@c", "a da@example.com", "ada@.com", "ada\u{0}@example.com"]
        {
            assert_eq!(email("/email", wrong).unwrap_err().pointer, "/email", "{wrong}");
        }
    }

    #[test]
    fn a_short_password_is_refused_without_repeating_it() {
        let violation = new_password("/password", &Sensitive::new("hunter2".to_owned())).unwrap_err();
        assert!(!violation.message.contains("hunter2"));
        assert!(new_password("/password", &Sensitive::new("correct horse".to_owned())).is_ok());
        assert!(new_password("/password", &Sensitive::new("x".repeat(1025))).is_err());
    }
}
