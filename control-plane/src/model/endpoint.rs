//! What providers and proxies have alike when they are read: where they are deployed, and whether that is the draft.

use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::deployment::{CurrentDeployment, InvokeUrl};
use super::name::{Name, reference};
use super::provider::ProviderSpec;
use super::proxy::ProxySpec;
use super::resource::{Resource, Warning, extended, head_schema};

/// An endpoint as it is read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView<S> {
    /// The resource.
    #[serde(flatten)]
    pub resource: Resource<S>,
    /// Whether what is deployed somewhere differs from this draft.
    pub pending_changes: bool,
    /// Where callers reach it.
    pub invoke_urls: Vec<InvokeUrl>,
    /// Its current deployments.
    pub deployments: Vec<CurrentDeployment>,
    /// In answers to writes: what the author should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// Members that change by themselves, without a revision of the endpoint.
pub const VOLATILE: [&str; 4] = ["pendingChanges", "invokeUrls", "deployments", "warnings"];

/// A provider as it is read.
pub type LlmProvider = EndpointView<ProviderSpec>;
/// A proxy as it is read.
pub type LlmProxy = EndpointView<ProxySpec>;

fn view_schema(spec: RefOr<Schema>) -> RefOr<Schema> {
    let list = |name: &str| ArrayBuilder::new().items(reference(name));
    let own = head_schema()
        .property("pendingChanges", ObjectBuilder::new().schema_type(Type::Boolean))
        .required("pendingChanges")
        .property("invokeUrls", list("InvokeUrl"))
        .required("invokeUrls")
        .property("deployments", list("CurrentDeployment"))
        .required("deployments")
        .property("warnings", list("Warning"));
    extended(own, spec)
}

impl<S: PartialSchema> PartialSchema for EndpointView<S> {
    fn schema() -> RefOr<Schema> {
        view_schema(S::schema())
    }
}

fn view_schemas<S: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push(("Name".to_owned(), Name::schema()));
    schemas.push(("InvokeUrl".to_owned(), InvokeUrl::schema()));
    schemas.push(("CurrentDeployment".to_owned(), CurrentDeployment::schema()));
    schemas.push(("Warning".to_owned(), Warning::schema()));
    CurrentDeployment::schemas(schemas);
    S::schemas(schemas);
}

impl ToSchema for LlmProvider {
    fn name() -> std::borrow::Cow<'static, str> {
        "LlmProvider".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        view_schemas::<ProviderSpec>(schemas);
    }
}

impl ToSchema for LlmProxy {
    fn name() -> std::borrow::Cow<'static, str> {
        "LlmProxy".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        view_schemas::<ProxySpec>(schemas);
    }
}
