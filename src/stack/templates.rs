//! The templates of device-types that a LAVA has, and devices as LAVA renders them: by its own code, in a
//! container of its server's image.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::stack::docker::Engine;
use crate::stack::provision::DeviceSpec;
use crate::text::{nearest, printable};

/// Where LAVA looks for them (`DEVICE_TYPES_PATHS` in `lava_server/settings/common.py`).
const LIST: [&str; 3] = [
    "sh",
    "-c",
    "ls /etc/lava-server/dispatcher-config/device-types /usr/share/lava-server/device-types 2> /dev/null; true",
];

/// `Device.load_configuration` of `lava_scheduler_app/models.py`, without a database.
const RENDER: &str = include_str!("render_device.py");

/// The names of the device-types that the LAVA in `container`, of its server, has a template of.
///
/// # Errors
/// [`Error::Infrastructure`] when it could not be asked.
pub async fn in_container(engine: &Engine, container: &str) -> Result<Vec<String>> {
    let output = engine.exec(container, &LIST, None).await?.success("listing LAVA's device-types")?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// The same of an `image` of a server.
///
/// # Errors
/// As there.
pub async fn in_image(engine: &Engine, image: &str) -> Result<Vec<String>> {
    let output = engine.run_once(image, &LIST).await?.success("listing LAVA's device-types")?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// A device as the LAVA in `image` gives it to a worker, YAML; `context` is the job's.
///
/// # Errors
/// [`Error::Usage`] with LAVA's words where it can't be rendered, [`Error::Infrastructure`] when the image
/// could not be used.
pub async fn render(engine: &Engine, image: &str, device: &DeviceSpec, context: &Value) -> Result<String> {
    let DeviceSpec { hostname, device_type, dictionary, .. } = device;
    let command = ["python3", "-c", RENDER, hostname, device_type, &context.to_string(), dictionary];
    let output = engine.run_once(image, &command).await?;
    if output.code == 0 {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").trim();
    Err(Error::Usage(format!("LAVA can't render device {hostname}: {}", printable(last))))
}

/// The names among files; what other templates are made of is none.
fn parse(listed: &str) -> Vec<String> {
    let names = listed.lines().filter_map(|line| line.trim().strip_suffix(".jinja2"));
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("base")).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// That there is no template of `device_type`, and the nearest names; nothing where there is one.
#[must_use]
pub fn missing(device_type: &str, known: &[String]) -> Option<String> {
    if known.iter().any(|name| name == device_type) {
        return None;
    }
    let near = nearest(device_type, known.iter().map(String::as_str));
    let hint = if near.is_empty() {
        "`meta-lava list --types` has those that there are".to_owned()
    } else {
        format!("did you mean {}?", near.join(", "))
    };
    Some(format!("this LAVA has no template of the device-type `{device_type}`; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_without_a_template_is_told_with_the_nearest_names() {
        let listed = "/etc/lava-server/dispatcher-config/device-types:\nmine.jinja2\n\n\
                      /usr/share/lava-server/device-types:\nbase.jinja2\nbase-uboot.jinja2\n\
                      beaglebone-black.jinja2\nmine.jinja2\nREADME\n";
        let known = parse(listed);
        assert_eq!(known, ["beaglebone-black", "mine"]);
        assert_eq!(missing("mine", &known), None);
        let said = missing("beaglebone-blak", &known).unwrap();
        assert!(said.ends_with("`beaglebone-blak`; did you mean beaglebone-black?"), "{said}");
        assert!(missing("x", &known).unwrap().contains("list --types"));
    }
}
