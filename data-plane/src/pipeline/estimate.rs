//! Tokens that nobody counted: of an answer that was cut short before the vendor said. The rule is stated in
//! `docs/guide/metering.md`; whatever comes from it is marked as estimated.

use crate::dialect::facts::Facts;

/// Bytes of text, or of a question around it, that make one token.
const BYTES: u64 = 4;
/// A larger question carries pictures, sound or files, whose bytes tell nothing.
const LARGEST_QUESTION: u64 = 1024 * 1024;

/// Fills in what the vendor had not said yet; whether there was anything to fill in. `asked`: bytes of the question;
/// `said`: of the text that had passed.
pub(super) fn complete(facts: &mut Facts, asked: Option<u64>, said: u64) -> bool {
    if facts.is_final() || (said == 0 && facts.input.is_none() && facts.output.is_none() && asked.is_none()) {
        return false;
    }
    facts.input = facts.input.or_else(|| asked.filter(|bytes| *bytes <= LARGEST_QUESTION).map(tokens));
    // What a vendor said in passing was true then, and more may have come since.
    facts.output = facts.output.max((said > 0).then(|| tokens(said)));
    facts.input.is_some() || facts.output.is_some()
}

fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(facts: Facts, asked: Option<u64>, said: u64) -> (Option<u64>, Option<u64>, bool) {
        let mut facts = facts;
        let estimated = complete(&mut facts, asked, said);
        (facts.input, facts.output, estimated)
    }

    #[test]
    fn what_was_not_said_is_worked_out() {
        assert_eq!(of(Facts::default(), Some(401), 9), (Some(101), Some(3), true));
        assert_eq!(of(Facts::default(), Some(400), 0), (Some(100), None, true));
        assert_eq!(of(Facts::default(), None, 0), (None, None, false));
        assert_eq!(of(Facts::default(), Some(LARGEST_QUESTION + 1), 8), (None, Some(2), true));
    }

    #[test]
    fn what_was_said_stays() {
        let said = Facts { input: Some(25), output: Some(1), ..Facts::default() };
        assert_eq!(of(said.clone(), Some(400), 40), (Some(25), Some(10), true));
        let running = Facts { output: Some(90), ..said.clone() };
        assert_eq!(of(running, Some(400), 40), (Some(25), Some(90), true));
        let ended = Facts { finish_reason: Some("end_turn".into()), ..said };
        assert_eq!(of(ended, Some(400), 40), (Some(25), Some(1), false));
    }
}
