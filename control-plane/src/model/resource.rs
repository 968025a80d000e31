//! What every catalogue resource has beside its spec, and how the two make one flat JSON object.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use super::api_key::ApiKeySpec;
use super::gateway::GatewaySpec;
use super::name::{Name, reference};
use super::secret::SecretSpec;

/// A resource as it is read: `{"id", "name", "revision", "createdAt", "updatedAt", ..spec}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource<S> {
    /// A typed id, in text.
    pub id: String,
    /// Unique among its kind.
    pub name: Name,
    /// The organization's revision that last changed it; also its `ETag`.
    pub revision: i64,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// What its author said.
    #[serde(flatten)]
    pub spec: S,
}

/// A resource as a client writes it: `{"name", ..spec}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft<S> {
    /// Unique among its kind.
    pub name: Name,
    /// The rest.
    pub spec: S,
}

/// A spec that is written and read as one of the catalogue's nouns.
pub trait Noun: PartialSchema + ToSchema {
    /// The schema's name when written, e.g. `LlmProviderInput`.
    const INPUT: &'static str;
}

/// A secret as it is read.
pub type Secret = Resource<SecretSpec>;
/// A gateway as it is read.
pub type Gateway = Resource<GatewaySpec>;
/// An API key as it is read.
pub type ApiKey = Resource<ApiKeySpec>;

/// An API key, this once.
#[derive(Clone, Serialize)]
pub struct MintedApiKey {
    /// As it is read later.
    #[serde(flatten)]
    pub resource: ApiKey,
    /// `lgk_...`; never shown again.
    pub key: String,
}

/// Something the author should know although the write succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// JSON pointer to what it is about.
    pub pointer: String,
    /// Closed set: `url_normalised`, `plain_http`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The members that every resource is read with; no client may change them.
pub const READ_ONLY: [&str; 4] = ["id", "revision", "createdAt", "updatedAt"];

/// The properties of an object's schema, with `own` before them.
pub fn extended(own: ObjectBuilder, spec: RefOr<Schema>) -> RefOr<Schema> {
    let mut object: Object = own.build();
    if let RefOr::T(Schema::Object(spec)) = spec {
        object.description = object.description.or(spec.description);
        object.properties.extend(spec.properties);
        object.required.extend(spec.required);
    }
    RefOr::T(Schema::Object(object))
}

/// The schema of a time.
pub fn time_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .build()
}

/// The schema of the members that every resource has.
pub fn head_schema() -> ObjectBuilder {
    let integer = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .description(Some("The organization's revision that last changed it."));
    let id = ObjectBuilder::new().schema_type(Type::String).description(Some("A typed id."));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("id", id)
        .required("id")
        .property("name", reference("Name"))
        .required("name")
        .property("revision", integer)
        .required("revision")
        .property("createdAt", time_schema())
        .required("createdAt")
        .property("updatedAt", time_schema())
        .required("updatedAt")
}

impl<S: PartialSchema> PartialSchema for Resource<S> {
    fn schema() -> RefOr<Schema> {
        extended(head_schema(), S::schema())
    }
}

impl<S: Noun> PartialSchema for Draft<S> {
    fn schema() -> RefOr<Schema> {
        let own = ObjectBuilder::new().schema_type(Type::Object).property("name", reference("Name")).required("name");
        extended(own, S::schema())
    }
}

impl<S: Noun> ToSchema for Draft<S> {
    fn name() -> std::borrow::Cow<'static, str> {
        S::INPUT.into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("Name".to_owned(), Name::schema()));
        S::schemas(schemas);
    }
}

/// A spec that is read as one of the catalogue's nouns.
pub trait Shown: ToSchema {
    /// The schema's name when read, e.g. `Gateway`.
    const NAME: &'static str;
}

impl Shown for SecretSpec {
    const NAME: &'static str = "Secret";
}

impl Shown for GatewaySpec {
    const NAME: &'static str = "Gateway";
}

impl Shown for ApiKeySpec {
    const NAME: &'static str = "ApiKey";
}

impl<S: Shown> ToSchema for Resource<S> {
    fn name() -> std::borrow::Cow<'static, str> {
        S::NAME.into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("Name".to_owned(), Name::schema()));
        S::schemas(schemas);
    }
}

impl PartialSchema for MintedApiKey {
    fn schema() -> RefOr<Schema> {
        let key = ObjectBuilder::new().schema_type(Type::String).description(Some("`lgk_...`; never shown again."));
        extended(head_schema().property("key", key).required("key"), ApiKeySpec::schema())
    }
}

impl ToSchema for MintedApiKey {
    fn name() -> std::borrow::Cow<'static, str> {
        "MintedApiKey".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ApiKey::schemas(schemas);
    }
}
