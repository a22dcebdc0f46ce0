//! As much XML-RPC as provisioning needs: many calls in one request. LAVA's
//! REST API creates one object a request; with `system.multicall` hundreds of
//! devices are one round trip.
//!
//! `dxr_client` (0.9) has a multicall, too, and is not used: it takes in an answer of any
//! length, its errors quote all of it, and it does not notice an answer to fewer calls than
//! were made. It has an HTTP client of its own and brings second versions of `quick-xml`,
//! `base64` and `winnow`; [`Api`] would still be needed for bounds, deadlines and tunnels.

use std::borrow::Cow;
use std::fmt::Write;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::Api;
use crate::error::{Error, Result};
use crate::text::printable;

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A number.
    Number(i64),
    /// A truth.
    Truth(bool),
    /// Python's `None`.
    Nothing,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<&serde_json::Value> for Value {
    /// A number that is not whole, and what is no scalar, is sent as text.
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Nothing,
            serde_json::Value::Bool(truth) => Self::Truth(*truth),
            serde_json::Value::String(text) => Self::Text(text.clone()),
            other => other.as_i64().map_or_else(|| Self::Text(other.to_string()), Self::Number),
        }
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Method.
    pub method: Cow<'static, str>,
    /// Parameters.
    pub parameters: Vec<Value>,
}

impl Call {
    /// A call of `method`.
    #[must_use]
    pub fn new(method: impl Into<Cow<'static, str>>, parameters: impl Into<Vec<Value>>) -> Self {
        Self { method: method.into(), parameters: parameters.into() }
    }

    fn describe(&self) -> String {
        let first = match self.parameters.first() {
            Some(Value::Text(text)) => text.as_str(),
            _ => "",
        };
        format!("{} {first}", self.method)
    }
}

/// How many calls go into one request: LAVA's gunicorn ends a request after
/// 30 seconds, and this many stay below that on a slow machine.
const CHUNK: usize = 200;

/// Makes all the calls, in order.
///
/// # Errors
/// [`Error::Infrastructure`] when LAVA does not answer, or answers any call
/// with a fault; the first one is told.
pub async fn multicall(api: &Api, what: &str, calls: &[Call]) -> Result<()> {
    ask(api, what, calls).await.map(|_| ())
}

/// [`multicall`], with what each call returned: the scalars in it, in order, as text.
///
/// # Errors
/// As [`multicall`].
pub async fn ask(api: &Api, what: &str, calls: &[Call]) -> Result<Vec<Vec<String>>> {
    let mut answers = Vec::with_capacity(calls.len());
    for calls in calls.chunks(CHUNK) {
        let outcomes = exchange(api, what, calls).await?;
        if let [Outcome::Fault(fault)] = outcomes.as_slice()
            && calls.len() != 1
        {
            return Err(Error::failed(what, format!("LAVA answered {fault}")));
        }
        if outcomes.len() != calls.len() {
            return Err(Error::failed(
                what,
                format!("LAVA answered {} of {} calls", outcomes.len(), calls.len()),
            ));
        }
        let faults: Vec<String> = calls
            .iter()
            .zip(&outcomes)
            .filter_map(|(call, outcome)| match outcome {
                Outcome::Value(_) => None,
                Outcome::Fault(fault) => Some(format!("{}: {fault}", call.describe())),
            })
            .collect();
        if let Some(first) = faults.first() {
            let more =
                if faults.len() > 1 { format!(" (and {} more)", faults.len() - 1) } else { String::new() };
            return Err(Error::failed(what, format!("{first}{more}")));
        }
        answers.extend(outcomes.into_iter().filter_map(|outcome| match outcome {
            Outcome::Value(scalars) => Some(scalars.into_iter().map(|scalar| scalar.text).collect()),
            Outcome::Fault(_) => None,
        }));
    }
    Ok(answers)
}

/// Makes one call, of which a fault is an answer, too.
///
/// # Errors
/// [`Error::Infrastructure`] when LAVA does not answer, or its answer makes no sense.
pub async fn one(api: &Api, call: &Call) -> Result<Outcome> {
    let what = format!("call {}", call.describe());
    let made = exchange(api, &what, std::slice::from_ref(call)).await?;
    made.into_iter().next().ok_or_else(|| senseless(&what, "it answers no call"))
}

/// Makes calls in one request, and gives what became of them as LAVA tells it.
async fn exchange(api: &Api, what: &str, calls: &[Call]) -> Result<Vec<Outcome>> {
    let answer = api.xmlrpc(what, request(calls)).await?;
    outcomes(&answer).map_err(|why| senseless(what, &why))
}

fn senseless(what: &str, why: &str) -> Error {
    Error::failed(what, format!("LAVA's XML-RPC answer makes no sense: {why}"))
}

fn request(calls: &[Call]) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\"?><methodCall><methodName>system.multicall</methodName><params><param><value>\
         <array><data>",
    );
    for call in calls {
        let _ = write!(
            xml,
            "<value><struct><member><name>methodName</name><value><string>{}</string></value></member>\
             <member><name>params</name><value><array><data>",
            quick_xml::escape::escape(&*call.method)
        );
        for parameter in &call.parameters {
            let _ = match parameter {
                Value::Text(text) => {
                    write!(xml, "<value><string>{}</string></value>", quick_xml::escape::escape(text))
                }
                Value::Number(number) => write!(xml, "<value><int>{number}</int></value>"),
                Value::Truth(truth) => write!(xml, "<value><boolean>{}</boolean></value>", u8::from(*truth)),
                Value::Nothing => write!(xml, "<value><nil/></value>"),
            };
        }
        xml.push_str("</data></array></value></member></struct></value>");
    }
    xml.push_str("</data></array></value></param></params></methodCall>");
    xml
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The scalars in it, in order.
    Value(Vec<Scalar>),
    /// The fault in words.
    Fault(String),
}

/// A value that is no array and no struct.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scalar {
    /// Which member of a struct it is, or is in; empty outside of all.
    pub member: String,
    /// What it is, as text.
    pub text: String,
}

/// What became of each call. In the answer each one is a `value` of the
/// outermost array: an array around its result, or a struct that is a fault.
/// When the whole request failed, that fault is the only one.
pub(crate) fn outcomes(xml: &[u8]) -> Result<Vec<Outcome>, String> {
    let mut reader = Reader::from_reader(xml);
    reader.config_mut().trim_text(false);
    let mut path: Vec<String> = Vec::new();
    let mut outcomes = Vec::new();
    let mut member = String::new();
    let (mut code, mut text) = (String::new(), String::new());
    let mut whole_fault = false;
    let mut buffer = Vec::new();
    // methodResponse/params/param/value/array/data/value
    const ONE: usize = 7;
    loop {
        let event = reader.read_event_into(&mut buffer).map_err(|error| error.to_string())?;
        match event {
            Event::Start(start) => {
                if path.len() > 64 {
                    return Err("it is nested too deep".into());
                }
                path.push(String::from_utf8_lossy(start.name().as_ref()).into_owned());
                let kind = path.last().map(String::as_str);
                if let Some(Outcome::Value(scalars)) = outcomes.last_mut()
                    && kind.is_some_and(|kind| SCALARS.contains(&kind))
                {
                    scalars.push(Scalar { member: member.clone(), text: String::new() });
                }
                if path.len() == 2 && kind == Some("fault") {
                    whole_fault = true;
                }
                if path.len() == ONE + 1 && !whole_fault {
                    match kind {
                        Some("array") => outcomes.push(Outcome::Value(Vec::new())),
                        Some("struct") => {
                            outcomes.push(Outcome::Fault(String::new()));
                            code.clear();
                            text.clear();
                        }
                        _ => return Err(format!("an unexpected {}", kind.unwrap_or_default())),
                    }
                }
            }
            Event::Text(content) => {
                let content = content.decode().map_err(|error| error.to_string())?;
                append(&path, &content, &mut member, &mut code, &mut text);
                append_scalar(&path, &content, &mut outcomes);
            }
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|error| error.to_string())?;
                let content = match reference.resolve_char_ref().map_err(|error| error.to_string())? {
                    Some(character) => character.to_string(),
                    None => {
                        quick_xml::escape::resolve_predefined_entity(&name).unwrap_or_default().to_owned()
                    }
                };
                append(&path, &content, &mut member, &mut code, &mut text);
                append_scalar(&path, &content, &mut outcomes);
            }
            Event::End(_) => {
                if path.last().is_some_and(|name| name == "member") {
                    member.clear();
                }
                if path.len() == ONE + 1
                    && let Some(Outcome::Fault(said)) = outcomes.last_mut()
                {
                    *said = fault(&code, &text);
                }
                path.pop();
            }
            Event::Eof => break,
            _ => {}
        }
        buffer.clear();
    }
    if whole_fault {
        return Ok(vec![Outcome::Fault(fault(&code, &text))]);
    }
    if !path.is_empty() {
        return Err("it ends in the middle".into());
    }
    Ok(outcomes)
}

/// A fault in words, fit for a terminal.
fn fault(code: &str, text: &str) -> String {
    printable(&format!("fault {}: {}", code.trim(), text.trim()))
}

fn append(path: &[String], content: &str, member: &mut String, code: &mut String, text: &mut String) {
    match path.last().map(String::as_str) {
        Some("name") => member.push_str(content.trim()),
        Some("int" | "i4") if member == "faultCode" => code.push_str(content),
        Some("string") if member == "faultString" => text.push_str(content),
        _ => {}
    }
}

/// Types of a value that is no array and no struct, <http://xmlrpc.com/spec.md>.
const SCALARS: [&str; 8] = ["int", "i4", "boolean", "string", "double", "dateTime.iso8601", "base64", "nil"];

fn append_scalar(path: &[String], content: &str, outcomes: &mut [Outcome]) {
    let is_scalar = path.last().is_some_and(|kind| SCALARS.contains(&kind.as_str()));
    if is_scalar
        && let Some(Outcome::Value(scalars)) = outcomes.last_mut()
        && let Some(last) = scalars.last_mut()
    {
        last.text.push_str(content);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_what_python_expects() {
        let xml = request(&[Call::new(
            "scheduler.devices.add",
            ["a<b&".into(), Value::Truth(true), Value::Nothing, Value::Number(24)],
        )]);
        assert!(xml.contains("<methodName>system.multicall</methodName>"));
        assert!(xml.contains(
            "<value><string>a&lt;b&amp;</string></value><value><boolean>1</boolean></value><value><nil/></value>\
             <value><int>24</int></value>"
        ));
        assert!(outcomes(b"<a>").is_err() || outcomes(b"<a>") == Ok(vec![]));
    }

    #[test]
    fn results_and_faults_are_told_apart() {
        let xml = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><array><data>\n\
                   <value><array><data>\n<value><nil/></value></data></array></value>\n\
                   <value><struct>\n<member>\n<name>faultCode</name>\n<value><int>404</int></value>\n</member>\n\
                   <member>\n<name>faultString</name>\n<value><string>Worker &lt;'w'&gt; was not found.</string></value>\n\
                   </member>\n</struct></value>\n\
                   <value><array><data>\n<value><struct><member><name>x</name><value><int>1</int></value></member>\
                   </struct></value></data></array></value>\n\
                   </data></array></value>\n</param>\n</params>\n</methodResponse>";
        assert_eq!(
            outcomes(xml.as_bytes()).unwrap(),
            [
                Outcome::Value(vec![]),
                Outcome::Fault("fault 404: Worker <'w'> was not found.".into()),
                Outcome::Value(vec![Scalar { member: "x".into(), text: "1".into() }]),
            ]
        );
        let xml = "<methodResponse><params><param><value><array><data><value><array><data><value><array><data>\
                   <value><boolean>1</boolean></value><value><base64>\nLSB7\nfQ==\n</base64></value>\
                   <value><string>a&amp;b</string></value></data></array></value></data></array></value></data>\
                   </array></value></param></params></methodResponse>";
        let scalars = ["1", "\nLSB7\nfQ==\n", "a&b"];
        let scalars = scalars.map(|text| Scalar { text: text.into(), ..Scalar::default() }).to_vec();
        assert_eq!(outcomes(xml.as_bytes()).unwrap(), [Outcome::Value(scalars)]);
        let xml = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>-32601</int>\
                   </value></member><member><name>faultString</name><value><string>no</string></value></member>\
                   </struct></value></fault></methodResponse>";
        assert_eq!(outcomes(xml.as_bytes()).unwrap(), [Outcome::Fault("fault -32601: no".into())]);
        assert!(outcomes(b"<methodResponse><params>").is_err());
        assert!(outcomes(b"not xml at all < >").is_err() || outcomes(b"not xml at all < >") == Ok(vec![]));
    }

    #[test]
    fn what_a_fault_says_is_fit_for_a_terminal() {
        let xml = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1</int></value>\
                   </member><member><name>faultString</name><value><string>a\u{1b}[31m&#27;\nb</string></value></member>\
                   </struct></value></fault></methodResponse>";
        let said = "fault 1: a\\x1b[31m\\x1b\\nb";
        assert_eq!(outcomes(xml.as_bytes()).unwrap(), [Outcome::Fault(said.into())]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_make_no_sense(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = outcomes(&bytes);
        }

        #[test]
        fn anything_made_of_the_protocols_pieces_is_an_answer_or_makes_no_sense(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "<methodResponse>", "<params>", "<param>", "<value>", "<array>", "<data>", "<struct>", "<member>",
                    "<name>", "<int>", "<fault>", "</fault>", "</value>", "</array>", "</data>", "</struct>", "faultCode",
                    "&lt;", "&#x41;", "&#xffffffff;", "&nobody;", "<![CDATA[x]]>", "<nil/>", "7",
                ]),
                0..60,
            )
        ) {
            let _ = outcomes(pieces.concat().as_bytes());
        }

        #[test]
        fn any_text_comes_back(text in "[^\r]*") {
            let xml = format!(
                "<methodResponse><params><param><value><array><data><value><array><data><value><string>{}</string>\
                 </value></data></array></value></data></array></value></param></params></methodResponse>",
                quick_xml::escape::escape(&text)
            );
            let scalar = Scalar { text, ..Scalar::default() };
            prop_assert_eq!(outcomes(xml.as_bytes()), Ok(vec![Outcome::Value(vec![scalar])]));
        }
    }
}
