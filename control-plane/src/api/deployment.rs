//! Deployments over REST.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::actor::Actor;
use super::answer;
use super::extract::{Body, Path, Query};
use super::page::{List, PageQuery};
use super::router::App;
use crate::model::deployment::{Deployment, DeploymentInput, DeploymentStatus};
use crate::model::duration::Duration;
use crate::model::error::Error;
use crate::model::role::Permission;
use crate::store::Written;
use crate::store::deployment::{self, Filter};

/// No answer is held longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Which deployments.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeploymentQuery {
    /// How many at most, 1 to 500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// Only those whose endpoint's name contains this.
    q: Option<String>,
    /// Only of this endpoint; name or id.
    endpoint: Option<String>,
    /// Only on this gateway; name or id.
    gateway: Option<String>,
    /// Only those that stand here.
    status: Option<DeploymentStatus>,
}

/// How long to wait for the nodes.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// Answer once every connected node has acknowledged, or after this long; at most `30s`. Absent: at once.
    #[param(value_type = Option<String>, example = "5s")]
    wait: Option<Duration>,
}

/// Deployments, newest first.
#[utoipa::path(get, path = "/deployments", tag = "deployments", operation_id = "listDeployments",
    params(DeploymentQuery), responses((status = 200, body = List<Deployment>)))]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<DeploymentQuery>,
) -> Result<Json<List<Deployment>>, Error> {
    actor.require(Permission::CatalogueRead)?;
    let DeploymentQuery { limit, cursor, q, endpoint, gateway, status } = query;
    let page = PageQuery { limit, cursor, q }.page()?;
    let filter = Filter { endpoint, gateway, status };
    let rows = deployment::list(&app.store, actor.organization_id, &filter, &page).await?;
    Ok(Json(List::page(rows, &page, |row| row.id.to_string())))
}

/// Deploy an endpoint's draft on a gateway, as its next version.
#[utoipa::path(post, path = "/deployments", tag = "deployments", operation_id = "createDeployment", params(Wait),
    request_body = DeploymentInput, responses(
        (status = 200, body = Deployment, description = "Settled within the time that was given."),
        (status = 202, body = Deployment, description = "On its way."),
    ))]
pub async fn create(
    State(app): State<App>,
    actor: Actor,
    Query(wait): Query<Wait>,
    Body(input): Body<DeploymentInput>,
) -> Result<Response, Error> {
    actor.require(Permission::DeploymentsWrite)?;
    let limit = limit(wait)?;
    let made = deployment::deploy(&app.store, &actor.author(), &input).await?;
    settled(&app, &actor, made, limit).await
}

/// One deployment.
#[utoipa::path(get, path = "/deployments/{deployment}", tag = "deployments", operation_id = "getDeployment",
    params(("deployment" = String, Path, description = "Id.")), responses((status = 200, body = Deployment)))]
pub async fn get(State(app): State<App>, actor: Actor, Path(id): Path<String>) -> Result<Response, Error> {
    actor.require(Permission::CatalogueRead)?;
    let found = deployment::get(&app.store, actor.organization_id, &id).await?;
    Ok(answer::read(found.revision, &found))
}

/// Take an endpoint off a gateway.
#[utoipa::path(post, path = "/deployments/{deployment}/undeploy", tag = "deployments",
    operation_id = "undeployDeployment", params(("deployment" = String, Path, description = "Id."), Wait), responses(
        (status = 200, body = Deployment, description = "Settled within the time that was given."),
        (status = 202, body = Deployment, description = "On its way."),
    ))]
pub async fn undeploy(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Result<Response, Error> {
    actor.require(Permission::DeploymentsWrite)?;
    let limit = limit(wait)?;
    let made = deployment::undeploy(&app.store, &actor.author(), &id).await?;
    settled(&app, &actor, made, limit).await
}

/// Deploy what an earlier version froze, as a new version.
#[utoipa::path(post, path = "/deployments/{deployment}/restore", tag = "deployments",
    operation_id = "restoreDeployment", params(("deployment" = String, Path, description = "Id."), Wait), responses(
        (status = 200, body = Deployment, description = "Settled within the time that was given."),
        (status = 202, body = Deployment, description = "On its way."),
    ))]
pub async fn restore(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Result<Response, Error> {
    actor.require(Permission::DeploymentsWrite)?;
    let limit = limit(wait)?;
    let made = deployment::restore(&app.store, &actor.author(), &id).await?;
    settled(&app, &actor, made, limit).await
}

fn limit(wait: Wait) -> Result<Option<std::time::Duration>, Error> {
    match wait.wait {
        Some(wait) if wait > LONGEST_WAIT => Err(Error::Malformed(format!("wait must be at most {LONGEST_WAIT}"))),
        Some(wait) => Ok(Some(std::time::Duration::from_millis(wait.as_millis()))),
        None => Ok(None),
    }
}

async fn settled(
    app: &App,
    actor: &Actor,
    made: Written<Deployment>,
    limit: Option<std::time::Duration>,
) -> Result<Response, Error> {
    let mut deployment = made.value;
    if let Some(limit) = limit {
        deployment = deployment::settled(&app.store, actor.organization_id, deployment.id, limit).await?;
    }
    let status = if deployment.status.is_pending() { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut headers = HeaderMap::new();
    let location = format!("/api/v1/deployments/{}", deployment.id);
    headers.insert(header::LOCATION, HeaderValue::try_from(location).expect("ids are ASCII"));
    headers.insert(answer::REVISION, HeaderValue::from(made.revision));
    Ok((status, headers, Json(deployment)).into_response())
}
