//! By which digest both planes know a rule. It depends on nothing but the rule, so that it holds over versions,
//! processes and machines.

use sha2::{Digest as _, Sha256};

use crate::quota::Rule;

/// Of owner, name, metric and window.
pub fn digest(rule: &Rule) -> [u8; 16] {
    let Rule { owner, api_key, name, metric, window_ms, calendar } = rule;
    let mut hash = Sha256::new();
    // Of fixed length, but for the name, which is last.
    hash.update(b"lockgate.quota.v1");
    hash.update((owner.len() as u64).to_be_bytes());
    hash.update(owner);
    hash.update([u8::from(*api_key)]);
    hash.update(metric.to_be_bytes());
    hash.update(window_ms.to_be_bytes());
    hash.update(calendar.to_be_bytes());
    hash.update(name.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    *digest.first_chunk().expect("thirty-two are more than sixteen")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_never_changes_and_tells_rules_apart() {
        let rule = Rule {
            owner: vec![7; 16].into(),
            api_key: true,
            name: "pace".to_owned(),
            metric: 1,
            window_ms: 60_000,
            calendar: 0,
        };
        let told = u128::from_be_bytes(digest(&rule));
        assert_eq!(format!("{told:032x}"), "51e94199e4c8ed148333b721d7fb042e");
        let others = [
            Rule { api_key: false, ..rule.clone() },
            Rule { name: "pace2".to_owned(), ..rule.clone() },
            Rule { metric: 2, ..rule.clone() },
            Rule { window_ms: 0, calendar: 1, ..rule.clone() },
            Rule { owner: vec![8; 16].into(), ..rule.clone() },
        ];
        for other in others {
            assert_ne!(digest(&other), digest(&rule), "{other:?}");
        }
    }
}
