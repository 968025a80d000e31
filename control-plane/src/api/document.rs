//! The OpenAPI document, as far as it is not made from the handlers: what holds for every operation alike.

use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Components, ContentBuilder, OpenApi, RefOr, ResponseBuilder};
use utoipa::{OpenApi as _, PartialSchema as _};

use super::problem::{Problem, ProblemItem};
use crate::model::name::{Name, reference};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Lockgate",
        description = "The control plane's REST API. Failures are RFC 9457 problems with a `code` from a closed set."
    ),
    components(schemas(Problem, ProblemItem))
)]
struct Base;

/// Operations that are open to whoever is not signed in yet.
const OPEN: [&str; 3] = ["createSession", "getBootstrap", "createBootstrap"];

/// The document before any route.
pub fn base() -> OpenApi {
    Base::openapi()
}

/// Adds the problem to every operation's answers, and how to sign in.
pub fn finish(document: &mut OpenApi) {
    let problem = ContentBuilder::new().schema(Some(reference("Problem"))).build();
    let response = ResponseBuilder::new()
        .description("What went wrong, as an RFC 9457 problem.")
        .content("application/problem+json", problem)
        .build();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten() {
            let default = RefOr::T(response.clone());
            operation.responses.responses.insert("default".to_owned(), default);
            if operation.operation_id.as_deref().is_some_and(|id| OPEN.contains(&id)) {
                operation.security = Some(Vec::new());
            }
        }
    }
    let components = document.components.get_or_insert_with(Components::default);
    components.schemas.entry("Name".to_owned()).or_insert_with(Name::schema);
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A personal access token, `lgt_...`."));
    components.security_schemes.insert("token".to_owned(), RefOr::T(SecurityScheme::Http(bearer.build())));
    let cookie = ApiKeyValue::with_description("lockgate", "The console's session; `__Host-lockgate` over https.");
    components.security_schemes.insert("session".to_owned(), RefOr::T(SecurityScheme::ApiKey(ApiKey::Cookie(cookie))));
    let none: [String; 0] = [];
    document.security =
        Some(vec![SecurityRequirement::new("token", none.clone()), SecurityRequirement::new("session", none)]);
}
