//! The owner `dev@localhost`: for `lockgate dev` and for tests, where whoever starts the process owns it anyway.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use proto::token::{self, TokenKind};
use time::Duration;

use super::{Error, Handle};
use crate::model::role::Role;
use crate::random;
use crate::sensitive::Sensitive;
use crate::store::access_token::{self, NewToken};
use crate::store::change::Author;
use crate::store::member::{self, Member, NewMember};
use crate::store::{now, one_time_token};

const EMAIL: &str = "dev@localhost";
const TOKEN: &str = "local administrator";
/// Made anew at every start, so it need not outlive a long one.
const LIFE: Duration = Duration::days(30);

/// Two ways in for whoever started the process.
#[derive(Clone)]
pub struct LocalAdmin {
    /// A personal access token, `lgt_...`; the same for the life of the handle.
    pub token: String,
    /// Opens the console once, within ten minutes; new at every call.
    pub sign_in: String,
}

impl std::fmt::Debug for LocalAdmin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl Handle {
    /// Makes or finds the owner `dev@localhost`, who has no password.
    pub async fn local_admin(&self) -> Result<LocalAdmin, Error> {
        let engine = self.app.store.engine();
        let author = Author::system(self.app.store.first_organization());
        let member = self.owner(&author).await?;
        let token = self
            .admin
            .get_or_try_init(|| async {
                // The one of the last start: nobody has it but whoever has this one.
                access_token::remove_named(engine, author.organization_id, member.id, TOKEN).await?;
                let token = random::token(TokenKind::PersonalAccess, None);
                let digest = token::digest(token.expose());
                let new = NewToken { name: TOKEN, digest, last4: token.last4(), expires_at: Some(now() + LIFE) };
                access_token::create(engine, &author, member.id, &new, now()).await?;
                Ok::<_, Error>(token)
            })
            .await?;
        let sign_in = Sensitive::new(BASE64_URL_SAFE_NO_PAD.encode(random::bytes::<32>()));
        let digest = token::digest(sign_in.expose());
        one_time_token::create_sign_in(engine, author.organization_id, member.id, &digest, now()).await?;
        Ok(LocalAdmin { token: token.expose().to_owned(), sign_in: sign_in.expose().to_owned() })
    }

    async fn owner(&self, author: &Author) -> Result<Member, Error> {
        let engine = self.app.store.engine();
        if let Some((member, _)) = member::find_by_email(engine, EMAIL).await? {
            return Ok(member);
        }
        let new =
            NewMember { email: EMAIL.to_owned(), display_name: "Local administrator".to_owned(), role: Role::Owner };
        match member::create(engine, author, &new, None, now()).await {
            // Somebody was quicker.
            Err(crate::model::error::Error::Conflict(..)) => {}
            created => return Ok(created?),
        }
        let found = member::find_by_email(engine, EMAIL).await?;
        let gone = || crate::model::error::Internal::message("the local administrator was removed at the same time");
        Ok(found.ok_or_else(|| crate::model::error::Error::Internal(gone()))?.0)
    }
}
