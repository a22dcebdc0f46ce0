//! `--mount` and `--volume` of `docker run` (`opts/mount.go` of Docker's client, `volume/mounts/linux_parser.go` of its engine).

use super::flags::truth;
use crate::engine::Volume;

/// Takes the value of a `--mount` apart: fields with commas between them, as in a CSV file.
///
/// # Errors
/// What the client says of it.
pub(super) fn parse(text: &str) -> Result<Volume, String> {
    let mut volume = Volume { source: String::new(), target: String::new(), read_only: false, make: false };
    let mut kind = String::from("volume");
    for field in fields(text) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), value.to_owned()),
            None => match field.to_lowercase().as_str() {
                key @ ("readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive") => {
                    (key.to_owned(), "true".into())
                }
                _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
            },
        };
        match key.as_str() {
            "type" => kind = value.to_lowercase(),
            "source" | "src" => volume.source = value,
            "target" | "dst" | "destination" => volume.target = value,
            "readonly" | "ro" => {
                volume.read_only =
                    truth(&value).ok_or_else(|| format!("invalid value for {key}: {value}"))?;
            }
            "consistency" | "bind-propagation" | "bind-nonrecursive" | "volume-nocopy" | "volume-label"
            | "volume-driver" | "volume-opt" | "tmpfs-size" | "tmpfs-mode" => {}
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if kind.is_empty() {
        return Err("type is required".into());
    }
    if volume.target.is_empty() {
        return Err("target is required".into());
    }
    if kind != "bind" {
        return Err(format!("a mount of type {kind} is not played by the ghost"));
    }
    Ok(volume)
}

/// The fields of a line of CSV.
fn fields(text: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// Takes the value of a `--volume` apart.
///
/// # Errors
/// What the engine says of it.
pub(super) fn volume(text: &str) -> Result<Volume, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match *parts.as_slice() {
        [source, target] => (source, target, "rw"),
        [source, target, mode] => (source, target, mode),
        _ => return Err(format!("invalid volume specification: '{text}'")),
    };
    let read_only = match mode {
        "rw" | "z" | "Z" => false,
        "ro" => true,
        _ => return Err(format!("invalid mode: {mode}")),
    };
    Ok(Volume { source: source.to_owned(), target: target.to_owned(), read_only, make: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lavas_mounts_are_taken_apart() {
        let volume = parse("type=bind,source=/a,destination=/b,readonly=true").unwrap();
        assert_eq!((volume.source.as_str(), volume.target.as_str(), volume.read_only), ("/a", "/b", true));
        assert_eq!(fields("a=1,\"o=addr=1,2\""), ["a=1", "o=addr=1,2"]);
    }

    /// As Docker 20.10.24 printed them.
    #[test]
    fn what_is_wrong_with_a_mount_is_said_as_docker_says_it() {
        let wrong = |text| parse(text).unwrap_err();
        assert_eq!(wrong("bogus"), "invalid field 'bogus' must be a key=value pair");
        assert_eq!(wrong("type=bind,source=/a"), "target is required");
        assert_eq!(wrong("type=bind,target=/x,frob=1"), "unexpected key 'frob' in 'frob=1'");
        assert!(volume("a:b:c:d").unwrap_err().starts_with("invalid volume specification"));
    }
}
