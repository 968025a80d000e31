//! Templates: read only, until custom ones exist.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::actor::Actor;
use super::answer;
use super::extract::Path;
use super::page::List;
use super::router::App;
use crate::model::error::Error;
use crate::model::id::TemplateId;
use crate::model::name::Name;
use crate::model::role::Permission;
use crate::model::template::{self, TemplateSpec};

/// A template as it is read.
#[derive(Debug, Serialize, ToSchema)]
pub struct Template {
    /// The same in every installation.
    id: TemplateId,
    /// What providers say in `template`.
    name: Name,
    /// The data.
    #[serde(flatten)]
    spec: TemplateSpec,
}

impl From<&template::Template> for Template {
    fn from(template: &template::Template) -> Self {
        Self { id: template.id, name: template.name.clone(), spec: template.spec.clone() }
    }
}

/// All templates, in the order in which they are offered.
#[utoipa::path(get, path = "/templates", tag = "templates", operation_id = "listTemplates",
    responses((status = 200, body = List<Template>)))]
pub async fn list(State(app): State<App>, actor: Actor) -> Result<Json<List<Template>>, Error> {
    actor.require(Permission::CatalogueRead)?;
    Ok(Json(List::all(app.templates.all().iter().map(Template::from).collect())))
}

/// One template, by name or id.
#[utoipa::path(get, path = "/templates/{template}", tag = "templates", operation_id = "getTemplate",
    params(("template" = String, Path, description = "Name or id.")), responses((status = 200, body = Template)))]
pub async fn get(State(app): State<App>, actor: Actor, Path(key): Path<String>) -> Result<Response, Error> {
    actor.require(Permission::CatalogueRead)?;
    let template = app.templates.find(&key).ok_or(Error::NotFound { noun: "template", key })?;
    Ok(answer::read(i64::from(template.spec.version), &Template::from(template)))
}
