#![doc = include_str!("rustdoc-links.md")]
#![doc = include_str!("../../manual/README.md")]

// The pages link to each other by references, such as `[stores]`. `rustdoc-links.md` defines them first, as paths of these
// modules, and the first definition counts. In the repository the definitions at the end of each page count, which are files.

macro_rules! pages {
    ($($name:ident = $file:literal,)+) => {$(
        #[doc = include_str!("rustdoc-links.md")]
        #[doc = include_str!(concat!("../../manual/", $file))]
        pub mod $name {}
    )+};
}

pages! {
    getting_started = "getting-started.md",
    standalone = "standalone.md",
    credentials = "credentials.md",
    administration = "administration.md",
    stores = "stores.md",
    replicas = "replicas.md",
    revocation = "revocation.md",
    keys = "keys.md",
    proxies = "proxies.md",
    mesh = "mesh.md",
    connections = "connections.md",
    observability = "observability.md",
    troubleshooting = "troubleshooting.md",
    testing = "testing.md",
    security = "security.md",
    migration = "migration.md",
    speed = "speed.md",
    stability = "stability.md",
    dependencies = "dependencies.md",
}
