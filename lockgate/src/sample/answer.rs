//! What the sample upstream says: from a question to words, tool calls and token counts.
//!
//! Knows no vendor's format and does no IO, so that the same question gets the same facts in every dialect.

use serde_json::{Value, json};

use super::schema;
use super::trigger::Trigger;

/// A tool the client offers, whatever the dialect calls it.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub(super) name: String,
    /// JSON Schema of the arguments; `Null` where the client sent none.
    pub(super) parameters: Value,
}

/// May the model call a tool?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ToolChoice {
    #[default]
    Auto,
    Never,
    Named(String),
}

/// What the text of the answer must look like.
#[derive(Clone, Debug, Default)]
pub(super) enum Shape {
    #[default]
    Prose,
    /// Some JSON; by this schema if there is one.
    Json(Option<Value>),
}

/// A question, read out of any dialect.
#[derive(Clone, Debug, Default)]
pub(super) struct Ask {
    /// How the answer introduces its speaker: `the OpenAI dialect`.
    pub(super) dialect: &'static str,
    pub(super) model: String,
    /// The text of the last user message.
    pub(super) prompt: String,
    /// Tool results that ended the conversation, oldest first.
    pub(super) results: Vec<String>,
    pub(super) tools: Vec<Tool>,
    pub(super) choice: ToolChoice,
    pub(super) shape: Shape,
    /// At most so many tokens of answer.
    pub(super) limit: Option<usize>,
    pub(super) stop: Vec<String>,
    /// Tokens of the whole conversation.
    pub(super) input: u64,
}

/// One tool call of an answer.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Value,
}

/// Why the answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    /// One of the client's stop sequences came up.
    Sequence(String),
    Length,
    Calls,
}

/// An answer, not yet in any dialect.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    /// The text in the pieces a stream sends; empty when tools are called.
    pub(super) pieces: Vec<String>,
    pub(super) calls: Vec<Call>,
    pub(super) finish: Finish,
    pub(super) input: u64,
    pub(super) output: u64,
}

impl Reply {
    /// The whole text.
    pub(super) fn text(&self) -> String {
        self.pieces.concat()
    }
}

/// Answers a question.
pub(super) fn answer(ask: &Ask) -> Reply {
    let calls = calls(ask);
    if !calls.is_empty() {
        let output = calls.iter().map(|call| count(&call.name) + count(&call.arguments.to_string())).sum();
        return Reply { pieces: Vec::new(), calls, finish: Finish::Calls, input: ask.input, output };
    }
    let mut text = compose(ask);
    let mut finish = Finish::Stop;
    let first_stop = ask.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| Some((text.find(stop)?, stop)));
    if let Some((at, stop)) = first_stop.min_by_key(|(at, _)| *at) {
        finish = Finish::Sequence(stop.clone());
        text.truncate(at);
    }
    let mut pieces = pieces(&text);
    if let Some(limit) = ask.limit.filter(|limit| *limit < pieces.len()) {
        pieces.truncate(limit);
        finish = Finish::Length;
    }
    let output = pieces.len() as u64;
    Reply { pieces, calls, finish, input: ask.input, output }
}

fn calls(ask: &Ask) -> Vec<Call> {
    if !ask.results.is_empty() || ask.choice == ToolChoice::Never {
        return Vec::new();
    }
    let chosen: Vec<&Tool> = match &ask.choice {
        ToolChoice::Named(name) => ask.tools.iter().filter(|tool| tool.name == *name).collect(),
        ToolChoice::Auto | ToolChoice::Never => {
            let mentioned: Vec<&Tool> = ask.tools.iter().filter(|tool| ask.prompt.contains(&tool.name)).collect();
            if mentioned.is_empty() { ask.tools.iter().take(1).collect() } else { mentioned }
        }
    };
    chosen
        .into_iter()
        .map(|tool| Call { name: tool.name.clone(), arguments: schema::example(&tool.parameters, &ask.prompt) })
        .collect()
}

fn compose(ask: &Ask) -> String {
    if !ask.results.is_empty() {
        return format!("The tool answered: {}", ask.results.join(" "));
    }
    if let Shape::Json(wanted) = &ask.shape {
        let value = wanted.as_ref().map_or_else(
            || json!({ "answer": prose(ask), "model": ask.model }),
            |wanted| schema::example(wanted, &ask.prompt),
        );
        return value.to_string();
    }
    match Trigger::find(&ask.prompt) {
        Some(Trigger::Empty) => String::new(),
        Some(Trigger::Long) => {
            let sentence = "The keeper opens the gate, counts the boat, and closes the gate again. ";
            sentence.repeat(60).trim_end().to_owned()
        }
        _ => prose(ask),
    }
}

fn prose(ask: &Ask) -> String {
    let question = ask.prompt.to_lowercase();
    if let Some(numbers) = counting(&question) {
        return numbers;
    }
    let subjects = [
        (
            "wso2",
            "WSO2 is a technology company, founded in 2005, that makes open-source software for API management, \
             integration, and identity and access management.",
        ),
        (
            "lockgate",
            "Lockgate is an AI gateway: admins connect LLM vendors once, developers call one Invoke URL with the \
             vendor's own SDK and a gateway API key.",
        ),
        ("the capital of france", "The capital of France is Paris."),
    ];
    let introduction = format!(
        "This is the sample upstream of Lockgate, answering in {} as {}; no vendor was called.",
        ask.dialect, ask.model
    );
    if let Some((_, text)) = subjects.iter().find(|(subject, _)| question.contains(subject)) {
        return format!("{text} ({introduction})");
    }
    if ask.prompt.trim().is_empty() {
        return format!("{introduction} You sent no text.");
    }
    let quoted: String = ask.prompt.trim().chars().take(280).collect();
    format!("{introduction} You said: \u{201c}{quoted}\u{201d}")
}

/// `Count from 1 to 5`, `count to 10`, `count down from 3 to 1`: the numbers, at most a thousand of them.
fn counting(question: &str) -> Option<String> {
    let after = &question[question.find("count")? + "count".len()..];
    let numbers: Vec<i64> = after
        .split(|letter: char| !letter.is_ascii_digit() && letter != '-')
        .filter_map(|word| word.parse().ok())
        .take(2)
        .collect();
    let (from, to) = match numbers.as_slice() {
        [to] => (1, *to),
        [from, to] => (*from, *to),
        _ => return None,
    };
    if from.abs_diff(to) >= 1000 {
        return None;
    }
    let list = |range: &mut dyn Iterator<Item = i64>| range.map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    Some(if from <= to { list(&mut (from..=to)) } else { list(&mut (to..=from).rev()) } + ".")
}

/// Cuts a text into what stands for tokens: words with the space before them, long ones in parts.
pub(super) fn pieces(text: &str) -> Vec<String> {
    const LONGEST: usize = 8;
    let mut pieces: Vec<String> = Vec::new();
    let mut piece = String::new();
    let mut letters = 0;
    for letter in text.chars() {
        let starts_word = letter.is_whitespace() && letters > 0;
        if starts_word || letters == LONGEST {
            pieces.push(std::mem::take(&mut piece));
            letters = 0;
        }
        piece.push(letter);
        letters += usize::from(!letter.is_whitespace());
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// The number of tokens in a text.
pub(super) fn count(text: &str) -> u64 {
    pieces(text).len() as u64
}

/// A deterministic unit vector for a text: the same text gives the same embedding, another text another one.
pub(super) fn embedding(text: &str, dimensions: usize) -> Vec<f32> {
    // FNV-1a over the text seeds a linear congruential generator (Knuth's constants).
    let mut state = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let raw: Vec<f32> = (0..dimensions)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f32::from(u16::try_from(state >> 48).unwrap_or_default()) / 32_768.0 - 1.0
        })
        .collect();
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.into_iter().map(|x| x / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(prompt: &str) -> String {
        answer(&Ask { prompt: prompt.to_owned(), dialect: "the OpenAI dialect", ..Ask::default() }).text()
    }

    #[test]
    fn it_counts_when_asked() {
        assert_eq!(said("Count from 1 to 5."), "1, 2, 3, 4, 5.");
        assert_eq!(said("count to 3"), "1, 2, 3.");
        assert_eq!(said("Count down from 3 to 1, please"), "3, 2, 1.");
    }

    #[test]
    fn it_says_what_it_is() {
        assert!(said("What is WSO2?").starts_with("WSO2 is a technology company"));
        assert!(said("Sing").contains("sample upstream of Lockgate"));
    }

    #[test]
    fn the_pieces_of_a_text_are_the_text() {
        for text in ["", " ", "1, 2, 3.", "a  b\n\nc", "Donaudampfschifffahrtsgesellschaft", "\u{1f600} ok"] {
            assert_eq!(pieces(text).concat(), text);
        }
    }

    #[test]
    fn a_limit_and_a_stop_sequence_end_the_answer() {
        let ask = Ask { prompt: "count to 100".to_owned(), limit: Some(3), ..Ask::default() };
        let reply = answer(&ask);
        assert_eq!((reply.text().as_str(), reply.finish, reply.output), ("1, 2, 3,", Finish::Length, 3));
        let reply = answer(&Ask { limit: None, stop: vec![" 4".to_owned()], ..ask });
        assert_eq!((reply.text().as_str(), reply.finish), ("1, 2, 3,", Finish::Sequence(" 4".to_owned())));
    }

    #[test]
    fn a_tool_that_is_offered_is_called_and_its_result_is_used() {
        let tool = |name: &str| Tool { name: name.to_owned(), parameters: Value::Null };
        let ask = Ask { prompt: "use second".to_owned(), tools: vec![tool("first"), tool("second")], ..Ask::default() };
        let reply = answer(&ask);
        assert_eq!(reply.finish, Finish::Calls);
        assert_eq!(reply.calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(), ["second"]);
        let reply = answer(&Ask { results: vec!["22 degrees".to_owned()], ..ask.clone() });
        assert_eq!(reply.text(), "The tool answered: 22 degrees");
        assert!(answer(&Ask { choice: ToolChoice::Never, ..ask }).calls.is_empty());
    }

    #[test]
    fn an_embedding_is_a_unit_vector_of_its_text() {
        let one = embedding("one", 64);
        assert!((one.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-3);
        assert_eq!(one, embedding("one", 64));
        assert_ne!(one, embedding("two", 64));
    }
}
