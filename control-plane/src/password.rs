//! Passwords: argon2id, with a bound on how many are hashed at one time and how many wait.
//!
//! One hash takes 19 MiB and tens of milliseconds, so the number at one time bounds memory, and the queue bounds how
//! long anyone waits; whoever comes on top is told to come back. An account that does not exist costs as much as one
//! that does.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::error::{Error, Internal};
use crate::random;
use crate::sensitive::Sensitive;

/// Memory of one hash, KiB (OWASP's first recommendation for argon2id, with two passes and one lane).
const MEMORY: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// How many may wait beside those being hashed.
const QUEUE: usize = 16;

/// Hashes and verifies; cheap to clone.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// One per hash under way; moved into the task that hashes, so that a client who leaves frees nothing early.
    permits: Arc<Semaphore>,
    /// One per hash under way or waiting.
    places: Arc<Semaphore>,
    /// What the password of an unknown account is compared with.
    dummy: Arc<str>,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another password, or no such account.
    Wrong,
    /// The right one.
    Right,
    /// The right one, hashed with weaker parameters than today's: hash it again.
    RightButWeak,
}

impl Passwords {
    /// `at_once` hashes at one time. Hashes one dummy, which takes tens of milliseconds.
    pub fn new(at_once: usize) -> Result<Self, Error> {
        let at_once = at_once.max(1);
        let dummy = hash(&Sensitive::new(BASE64.encode(random::bytes::<32>())))?;
        Ok(Self {
            permits: Arc::new(Semaphore::new(at_once)),
            places: Arc::new(Semaphore::new(at_once + QUEUE)),
            dummy: dummy.into(),
        })
    }

    /// A PHC string for the store.
    pub async fn hash(&self, password: Sensitive) -> Result<String, Error> {
        self.run(move || hash(&password)).await?
    }

    /// Compares with a stored PHC string; without one with the dummy, at the same cost.
    pub async fn verify(&self, password: Sensitive, stored: Option<&str>) -> Result<Verdict, Error> {
        let against: Arc<str> = stored.map_or_else(|| Arc::clone(&self.dummy), Arc::from);
        let known = stored.is_some();
        let verdict = self.run(move || verify(&password, &against)).await??;
        Ok(if known { verdict } else { Verdict::Wrong })
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Error::Unavailable(Internal::message("too many passwords wait to be checked")))?;
        let permit: OwnedSemaphorePermit =
            Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((permit, place));
            result
        });
        task.await.map_err(|error| Error::Internal(Internal::new(error)))
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY, PASSES, LANES, None).expect("constants within argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &Sensitive) -> Result<String, Error> {
    argon2()
        .hash_password(password.expose().as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| Error::Internal(Internal::new(error)))
}

fn verify(password: &Sensitive, stored: &str) -> Result<Verdict, Error> {
    let stored = PasswordHash::new(stored).map_err(|error| Error::Internal(Internal::new(error)))?;
    match argon2().verify_password(password.expose().as_bytes(), &stored) {
        Ok(()) => Ok(if weak(&stored) { Verdict::RightButWeak } else { Verdict::Right }),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
        Err(error) => Err(Error::Internal(Internal::new(error))),
    }
}

fn weak(stored: &PasswordHash) -> bool {
    stored.algorithm != Algorithm::Argon2id.ident()
        || Params::try_from(stored).map_or(true, |params| params.m_cost() < MEMORY || params.t_cost() < PASSES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Sensitive {
        Sensitive::new(text.to_owned())
    }

    #[tokio::test]
    async fn the_right_password_is_right_and_nothing_else_is() {
        let passwords = Passwords::new(1).unwrap();
        let stored = passwords.hash(password("correct horse battery")).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        let verify = |text| passwords.verify(password(text), Some(&stored));
        assert_eq!(verify("correct horse battery").await.unwrap(), Verdict::Right);
        assert_eq!(verify("correct horse batterY").await.unwrap(), Verdict::Wrong);
        assert_eq!(passwords.verify(password("anything"), None).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_hash_with_weaker_parameters_is_told() {
        let params = Params::new(8 * 1024, 1, 1, None).unwrap();
        let stored = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(b"correct horse battery")
            .unwrap()
            .to_string();
        let passwords = Passwords::new(1).unwrap();
        let verdict = passwords.verify(password("correct horse battery"), Some(&stored)).await.unwrap();
        assert_eq!(verdict, Verdict::RightButWeak);
    }

    #[tokio::test]
    async fn beyond_the_queue_one_is_told_to_come_back() {
        let passwords = Passwords::new(1).unwrap();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let mut waiting = Vec::new();
        let first = tokio::spawn({
            let passwords = passwords.clone();
            async move { passwords.run(move || wait.recv().is_ok()).await.map_err(|_| ()) }
        });
        for _ in 0..QUEUE {
            let passwords = passwords.clone();
            waiting.push(tokio::spawn(async move { passwords.run(|| true).await.map_err(|_| ()) }));
        }
        while passwords.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(passwords.run(|| true).await, Err(Error::Unavailable(_))));
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(true));
        for task in waiting {
            assert_eq!(task.await.unwrap(), Ok(true));
        }
    }

    #[tokio::test]
    async fn a_client_who_leaves_frees_the_place_only_when_the_hash_is_done() {
        let passwords = Passwords::new(1).unwrap();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let (started, begun) = tokio::sync::oneshot::channel();
        let left = tokio::spawn({
            let passwords = passwords.clone();
            async move {
                passwords
                    .run(move || {
                        started.send(()).ok();
                        wait.recv().is_ok()
                    })
                    .await
                    .map_err(|_| ())
            }
        });
        begun.await.unwrap();
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        assert_eq!(passwords.permits.available_permits(), 0);
        release.send(()).unwrap();
        assert_eq!(passwords.run(|| 7).await.map_err(|_| ()), Ok(7));
    }
}
