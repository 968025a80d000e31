//! Vendor formats: bytes in, facts out. No IO, no clock, no configuration types; what differs between vendors of one
//! dialect arrives as data (a [`facts::Plan`]).

pub mod ask;
pub mod aws;
pub mod demand;
pub mod facts;
pub mod listing;
pub mod naming;
pub mod pointer;
pub mod scan;
pub mod sse;

mod anthropic;
mod bedrock;
mod gemini;
mod members;
mod mistral;
mod openai;

pub mod fault;

/// How errors and streams of a family of vendors look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI, Azure, and everything that imitates them.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Google's Gemini.
    Gemini,
    /// Mistral.
    Mistral,
    /// Amazon Bedrock.
    Bedrock,
}
