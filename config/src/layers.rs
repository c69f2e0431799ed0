//! The layers of a node's configuration, lowest first: defaults, file, environment, flags. Each
//! value remembers its layer, so that an error can say where the value was written.

use std::path::{Path, PathBuf};

use figment::{
    Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::Serialized,
    value::{Dict, Map, Value},
};
use serde::Serialize;

use crate::{
    error::{ConfigError, Origin, Problem},
    files::{MAX_FILE_BYTES, one_line, parse_yaml, read_text},
    raw::{Defaults, NodeFile},
};

/// `MINIDLT_API_LISTEN` is `api_listen`, `MINIDLT_TLS__KEY` is `tls.key`.
pub const ENVIRONMENT_PREFIX: &str = "MINIDLT_";

const DEFAULTS: &str = "defaults";
const FILE: &str = "file";
const ENVIRONMENT: &str = "environment";
const FLAGS: &str = "flags";

/// The keys that have a flag; `None` leaves the lower layers' value. The flag of `data_dir` is
/// `--data-dir`, and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Flags {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genesis: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers_listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
}

/// One layer with its name.
struct Layer {
    name: &'static str,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// The merged layers, able to say where each value came from.
pub(crate) struct Layers {
    figment: Figment,
    file: PathBuf,
}

impl Layers {
    pub fn read(
        file: &Path,
        environment: impl Iterator<Item = (String, String)>,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        let text = read_text(file, MAX_FILE_BYTES)?;
        let figment = Figment::from(Layer { name: DEFAULTS, values: dictionary(&Defaults::default()) })
            .merge(Layer { name: FILE, values: file_values(file, &text)? })
            .merge(Layer { name: ENVIRONMENT, values: Dict::new() });
        let figment = environment_values(environment)
            .into_iter()
            .fold(figment, |figment, values| figment.merge(Layer { name: ENVIRONMENT, values }))
            .merge(Layer { name: FLAGS, values: dictionary(flags) });
        Ok(Self { figment, file: file.to_owned() })
    }

    /// All keys, each of its type.
    pub fn extract(&self) -> Result<NodeFile, ConfigError> {
        self.figment.extract().map_err(|error| self.explain(error))
    }

    /// Where `key` (dotted) came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.named(self.figment.find_metadata(key), key)
    }

    fn named(&self, metadata: Option<&Metadata>, key: &str) -> Origin {
        match metadata.map(|metadata| metadata.name.as_ref()) {
            Some(DEFAULTS) => Origin::Default,
            Some(ENVIRONMENT) => Origin::Environment(variable(key)),
            Some(FLAGS) => Origin::Flag(format!("--{}", key.replace(['_', '.'], "-"))),
            _ => Origin::File(self.file.clone()),
        }
    }

    fn explain(&self, error: figment::Error) -> ConfigError {
        let path = error.path.join(".");
        let within = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match error.kind {
            // The path ends in the unknown key. Its own layer is asked for, not the key's: a key with
            // a dot in it may read like another's path.
            Kind::UnknownField(name, expected) => {
                let origin = self.named(error.metadata.as_ref(), &path);
                let key = if path.is_empty() { name } else { path };
                ConfigError::key(key, origin, Problem::UnknownKey { expected: expected.join(", ") })
            }
            Kind::MissingField(name) => {
                ConfigError::key(within(&name), Origin::File(self.file.clone()), Problem::Missing)
            }
            Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
                let origin = self.origin(&path);
                let expected = if expected.starts_with("struct") { "keys below it".to_owned() } else { expected };
                ConfigError::key(path, origin, Problem::WrongType { found: found.to_string(), expected })
            }
            other => {
                let origin = self.origin(&path);
                ConfigError::key(path, origin, Problem::Wrong(one_line(&other.to_string())))
            }
        }
    }
}

/// The environment variable of a key.
fn variable(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_uppercase())
}

fn file_values(file: &Path, text: &str) -> Result<Dict, ConfigError> {
    let values: serde_yaml::Mapping = parse_yaml(file, text)?;
    let values = Value::serialize(&values)
        .map_err(|error| ConfigError::file(file, Problem::Syntax(one_line(&error.to_string()))))?;
    Ok(values.into_dict().unwrap_or_default())
}

/// One dictionary a variable, nested at `__`.
fn environment_values(variables: impl Iterator<Item = (String, String)>) -> Vec<Dict> {
    let named = variables.filter_map(|(name, text)| Some((name.strip_prefix(ENVIRONMENT_PREFIX)?.to_owned(), text)));
    let nested = named.map(|(name, text)| {
        let key = name.to_lowercase().replace("__", ".");
        // Only limits are numbers; an organisation may well be named 007.
        let number = key.starts_with("limits.").then(|| text.parse::<u64>().ok()).flatten();
        figment::util::nest(&key, number.map_or_else(|| Value::from(text), Value::from))
    });
    nested.filter_map(Value::into_dict).collect()
}

fn dictionary(layer: &impl Serialize) -> Dict {
    Serialized::defaults(layer)
        .data()
        .ok()
        .and_then(|mut profiles| profiles.remove(&Profile::Default))
        .unwrap_or_default()
}
