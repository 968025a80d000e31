//! What the first start makes beside the store: the first owner's token, and the gateway `default` with a token for
//! nodes that run beside this control plane.

use std::io::Write as _;
use std::path::Path;

use proto::token::{self, TokenKind};

use super::{Error, FirstOwnerToken};
use crate::config::Bootstrap;
use crate::model::gateway::GatewayTokenInput;
use crate::random;
use crate::sensitive::Sensitive;
use crate::store::master_key::write_private;
use crate::store::{Author, Store, gateway, member, now, one_time_token};

const FILE: &str = "first-owner-token";
/// Made with the store.
const DEFAULT_GATEWAY: &str = "default";

/// The token by which the first owner comes, if there is none; the one of the last start while it is good.
pub(super) async fn owner_token(
    store: &Store,
    data_dir: &Path,
    public_url: &str,
) -> Result<Option<FirstOwnerToken>, Error> {
    let (engine, organization_id) = (store.engine(), store.first_organization());
    let file = data_dir.join(FILE);
    let failed = |source| Error::File { path: file.clone(), source };
    let before = match std::fs::read_to_string(&file) {
        Ok(text) => Some(Sensitive::new(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    if member::exists(engine, organization_id).await? {
        if before.is_some() {
            // Useless now; somebody could take it for a way in.
            std::fs::remove_file(&file).map_err(failed)?;
        }
        return Ok(None);
    }
    let token = match before {
        Some(token) if one_time_token::bootstrap_is_live(engine, &token::digest(token.expose()), now()).await? => token,
        before => {
            if before.is_some() {
                std::fs::remove_file(&file).map_err(failed)?;
            }
            let token = random::token(TokenKind::Bootstrap, None);
            one_time_token::create_bootstrap(engine, organization_id, &token::digest(token.expose()), now()).await?;
            write_private(&file, &format!("{}\n", token.expose())).map_err(failed)?;
            token
        }
    };
    tracing::info!(
        "there is no owner yet: open {public_url}/bootstrap with the token in {}, good for 24 hours",
        file.display()
    );
    Ok(Some(FirstOwnerToken { token, file }))
}

/// Says the token once, on standard output, to whoever started the process. It never goes through the log.
pub(super) fn print(owner: &FirstOwnerToken, public_url: &str) {
    let text = format!(
        "\n  Lockgate has no owner yet. Open this address to become it (once, within 24 hours):\n\n    \
         {public_url}/bootstrap#token={}\n\n  The token is also in {}.\n\n",
        owner.token.expose(),
        owner.file.display()
    );
    // A closed standard output is no reason not to serve: the file has the token.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Sets up the gateway `default` as the configuration says: its base URL, its networks, and a token in a file for nodes
/// that run beside this control plane.
pub(super) async fn gateway(store: &Store, bootstrap: &Bootstrap, ca_fingerprint: &str) -> Result<(), Error> {
    let Bootstrap { gateway_token_file, gateway_base_url, gateway_upstream_networks } = bootstrap;
    if let Some(url) = gateway_base_url {
        let url = url.as_str().trim_end_matches('/');
        gateway::set_base_url(store, DEFAULT_GATEWAY, url, gateway_upstream_networks).await?;
    }
    let Some(file) = gateway_token_file else { return Ok(()) };
    let failed = |source| Error::File { path: file.clone(), source };
    match std::fs::read_to_string(file) {
        // A token of another authority is one of a store that is gone: no node can come in with it.
        Ok(text) if token::ca_fingerprint(text.trim()) == Some(ca_fingerprint) => return Ok(()),
        Ok(_) => std::fs::remove_file(file).map_err(failed)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let author = Author::system(store.first_organization());
    // Whoever removed the file wants another token; the oldest makes room.
    let active = match gateway::list_tokens(store, author.organization_id, DEFAULT_GATEWAY).await {
        Ok(active) => active,
        Err(crate::model::error::Error::NotFound { .. }) => {
            tracing::warn!(
                "there is no gateway `{DEFAULT_GATEWAY}` any more: no token was written to {}; make one for your gateway \
                 with POST /api/v1/gateways/NAME/tokens and clear bootstrap.gateway_token_file",
                file.display()
            );
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(oldest) = active.iter().min_by_key(|token| token.created_at).filter(|_| active.len() > 1) {
        gateway::revoke_token(store, &author, DEFAULT_GATEWAY, &oldest.id.to_string()).await?;
    }
    let input = GatewayTokenInput { expires_in: None };
    let minted = gateway::mint_token(store, &author, DEFAULT_GATEWAY, input, ca_fingerprint).await?.value;
    write_private(file, &format!("{}\n", minted.token.expose())).map_err(failed)?;
    tracing::info!("a token for nodes of the gateway `{DEFAULT_GATEWAY}` is in {}", file.display());
    Ok(())
}
