//! A running node reads its own files again and again, and stops when they are not what it wrote.
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fama_node::config::{Config, ScrubSettings};
use fama_node::node;
use fama_tests::secret;
use tokio::sync::oneshot;

use crate::federation::{LocalFederation, eventually, multi};

/// How long damage may go unnoticed here: one pass, the pause after it, and the delay of a busy machine.
const NOTICED: Duration = Duration::from_secs(30);

/// The value of a metric without labels.
async fn metric(admin: std::net::SocketAddr, name: &'static str) -> u64 {
    let read = move || ureq::get(format!("http://{admin}/metrics")).call().unwrap().body_mut().read_to_string();
    let text = tokio::task::spawn_blocking(read).await.unwrap().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
}

/// Every table file of the database.
fn tables(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data).unwrap().map(|file| file.unwrap().path());
    let mut tables: Vec<_> = files.filter(|file| file.extension().is_some_and(|ending| ending == "sst")).collect();
    tables.sort();
    tables
}

fn largest(tables: Vec<PathBuf>) -> PathBuf {
    tables.into_iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
}

#[test]
fn a_flipped_bit_in_a_table_stops_a_running_node() {
    multi(async {
        let mut net = LocalFederation::running(1).await;
        let (_, registration) = net.register(0, "kept", &secret(2));
        net.accepted(0, registration).await;
        net.stop(0).await;

        let scrub = ScrubSettings { bytes_per_second: 64 << 20, pause_seconds: 1 };
        let (told, addresses) = oneshot::channel();
        let config = Config { scrub, ..net.config(0) };
        let mut running = tokio::spawn(node::run(config, std::future::pending(), |up| drop(told.send(up.clone()))));
        let admin = addresses.await.unwrap().admin.unwrap();
        // Compactions after the start rewrite tables: wait for a pass that began and ended with the same ones.
        let table = eventually("a whole pass over tables that stay", || async {
            let before = tables(&net.data(0));
            let last = "fama_scrub_last_pass_timestamp_seconds";
            let begun = metric(admin, last).await;
            eventually("two passes", || async {
                let now = metric(admin, last).await;
                if begun > 0 && now > begun + 2 || begun == 0 && now > 0 { Ok(()) } else { Err(now.to_string()) }
            })
            .await;
            if begun > 0 && tables(&net.data(0)) == before { Ok(largest(before)) } else { Err(format!("{before:?}")) }
        })
        .await;
        assert!(metric(admin, "fama_scrub_bytes_total").await > 0);
        assert!(!running.is_finished());

        let (file, mut byte) = (OpenOptions::new().read(true).write(true).open(&table).unwrap(), [0]);
        let at = file.metadata().unwrap().len() / 3;
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
        let ended = tokio::time::timeout(NOTICED, &mut running).await.expect("the node keeps running on damaged data");
        let error = ended.unwrap().unwrap_err();
        assert_eq!(error.code(), "database");
        let said = error.to_string();
        let name = table.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name) && said.contains("fama check --repair"), "{said}");
    });
}
