//! Secrets and ignored files are never read as context, and nothing is completed inside them.

use lacuna_tests::{
    client::{Client, inline_capabilities},
    project::Project,
    scripted::Scripted,
};
use serde_json::Value;

/// Files that define the same name as the one that may be read, each with words of its own.
const FILES: &str = "\
//- .gitignore
ignored.py
build/
//- .lacunaignore
private.py
//- open.py
def shared_name(visible_argument):
    return visible_argument
//- ignored.py
def shared_name(forbidden_gitignore):
    return 1
//- private.py
def shared_name(forbidden_lacunaignore):
    return 1
//- build/out.py
def shared_name(forbidden_build):
    return 1
//- .env
FORBIDDEN_ENV=hunter2
//- .env.py
def shared_name(forbidden_dotenv):
    return 1
//- id_rsa
forbidden_key
//- main.py
from open import shared_name
";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_or_secret_never_reaches_the_prompt() {
    let project = Project::new(FILES);
    let backend = Scripted::says("1");
    let client = Client::in_memory(backend.clone());
    client.initialize(&[project.root()], Value::Null, inline_capabilities()).await;
    client.ready(2).await;
    // Open buffers of such files must not be read as context either.
    for path in ["ignored.py", "private.py", ".env.py", "build/out.py"] {
        let text = std::fs::read_to_string(project.path(path)).expect("readable");
        client.open(&project.uri(path), "python", &text).await;
    }
    let main = project.uri("main.py");
    let imports = "from open import shared_name\nimport ignored, private, build.out\n\n\n";
    client.open(&main, "python", &format!("{imports}x = shared_name(\n")).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    client.inline(&main, 4, 16).await;
    let prompt = backend.last_prompt();
    assert!(prompt.contains("visible_argument"), "the open definition is there: {prompt}");
    for word in ["forbidden", "FORBIDDEN", "hunter2"] {
        assert!(!prompt.contains(word), "{word} reached the prompt: {prompt}");
    }
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_completed_inside_secrets() {
    let project = Project::new("//- .env\nTOKEN=\n//- server.pem\nx\n//- id_rsa\nx\n");
    let backend = Scripted::says("hunter2");
    let client = Client::in_memory(backend.clone());
    client.initialize(&[project.root()], Value::Null, inline_capabilities()).await;
    client.ready(0).await;
    for path in [".env", ".env.local", "server.pem", "id_rsa"] {
        let uri = project.uri(path);
        client.open(&uri, "plaintext", "TOKEN=").await;
        assert!(client.inline(&uri, 0, 6).await.is_empty(), "{path}");
    }
    assert_eq!(backend.requests(), 0);
    client.shut_down().await;
}
