//! The texts of the library name its methods. These functions replace them by settings of the service and by commands of the tool.

const METHODS_AND_SETTINGS: [(&str, &str); 7] = [
    ("KeyEncryptionKey::also", "keys.previous_encryption_key_file"),
    ("it is not in .known_scopes(…)", "it is not in tokens.scope"),
    ("add it to the server with .known_scopes(…)", "add it to tokens.scope"),
    ("add it to the server with .resource(…)", "add it as one of [[resources]]"),
    ("add it to the client with .scope(…)", "add it to `scope` of the client"),
    ("add it with .scope(…)", "add it to `scope`"),
    ("`KeyManager::accept_stored` is called", "`clients keys accept-stored` was run"),
];

const METHODS_AND_COMMANDS: [(&str, &str); 8] = [
    ("KeyEncryptionKey::also", "--previous-encryption-key-file"),
    ("`KeyManager::status` lists its keys", "`clients keys status` lists its keys"),
    (
        "call `KeyManager::rotate` first, or `KeyManager::distrust`",
        "run `clients keys rotate` first, or `clients keys distrust`",
    ),
    ("`KeyManager::accept_stored` is called", "`clients keys accept-stored` was run"),
    ("`KeyManager::accept_stored`", "`clients keys accept-stored`"),
    ("add it to the client with .scope(…)", "add it with --scope"),
    ("add it with .scope(…)", "add it with --scope"),
    ("see Client::authentication", "see --authentication"),
];

/// Returns the text with settings of the service.
#[allow(dead_code)] // the example `clients` has none
pub(crate) fn with_settings(text: &str) -> String {
    replaced(text, &METHODS_AND_SETTINGS)
}

/// Returns the text with commands and options of the tool.
#[allow(dead_code)] // the example `standalone` has none
pub(crate) fn with_commands(text: &str) -> String {
    replaced(text, &METHODS_AND_COMMANDS)
}

fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
