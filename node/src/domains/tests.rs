//! What proves a claim, and which addresses are public.
#![allow(clippy::unwrap_used)]
use super::*;

fn claim() -> DomainClaim {
    let (domain, home): (Domain, Domain) = ("judge.example".parse().unwrap(), "alpha.example".parse().unwrap());
    let provider = fama_ledger::id::EventId([2; 32]);
    DomainClaim::new(domain, FederationId([1; 32]), &provider, Some(("judge", &home)))
}

#[test]
fn a_record_names_provider_and_federation() {
    let claim = claim();
    let (federation, other, id) = ("01".repeat(32), "03".repeat(32), "02".repeat(32));
    let good = |provider: &str| format!("v=fama1; federation={federation}; provider={provider}");
    assert_eq!(claim.txt(), good(&id));
    let did = format!("did:agent:alpha.example:{}", "02".repeat(16));
    for text in [
        good(&id),
        good("judge@alpha.example"),
        good(&did),
        format!("v=fama1;provider={id};federation={federation}"),
        format!("{}; later=x; ", good(&id)),
    ] {
        assert!(claim.is_met_by_txt(&text), "{text}");
    }
    for text in [
        String::new(),
        format!("provider={id}"),
        format!("federation={federation}; provider={id}"),
        format!("v=fama2; federation={federation}; provider={id}"),
        format!("federation={federation}; provider={id}; v=fama1"),
        format!("v=fama1; federation={other}; provider={id}"),
        format!("v=fama1; federation={other}; federation={federation}; provider={id}"),
        format!("v=fama1; federation={federation}; provider={other}; provider={id}"),
        format!("v=fama1; provider={id}"),
        format!("v=fama1; federation={federation}"),
        good("judge@beta.example"),
        good(&id[..63]),
        good(&format!("x{id}")),
    ] {
        assert!(!claim.is_met_by_txt(&text), "{text}");
    }
}

#[test]
fn a_file_names_provider_and_federation() {
    let claim = claim();
    let (federation, other, id) = ("01".repeat(32), "03".repeat(32), "02".repeat(32));
    let entry = |federation: &str, provider: &str| {
        format!("{{\"federation\": \"{federation}\", \"provider\": \"{provider}\"}}")
    };
    let file = |entries: &[String]| format!("{{\"more\": 1, \"providers\": [{}]}}", entries.join(", "));
    assert_eq!(serde_json::from_str::<Value>(&claim.file()).unwrap()["providers"][0]["provider"], id.as_str());
    let good = entry(&federation, &id);
    for text in [
        claim.file(),
        file(std::slice::from_ref(&good)),
        file(&["7".to_owned(), entry(&other, &id), entry(&federation, "judge@alpha.example")]),
    ] {
        assert!(claim.is_met_by_file(text.as_bytes(), "providers"), "{text}");
    }
    let too_many: Vec<String> = (0..ENTRIES_MAX).map(|_| entry(&other, &id)).chain([good.clone()]).collect();
    for text in [
        String::new(),
        good.clone(),
        format!("[{good}]"),
        format!("{{\"providers\": {good}}}"),
        format!("{{\"providers\": [\"{id}\"]}}"),
        file(&[entry(&other, &id)]),
        file(&[entry(&federation, &other)]),
        file(&too_many),
        "[".repeat(10_000),
    ] {
        assert!(!claim.is_met_by_file(text.as_bytes(), "providers"), "{text}");
    }
    assert!(!claim.is_met_by_file(claim.file().as_bytes(), "fama_providers"));
}

#[test]
fn public_addresses() {
    for text in ["1.1.1.1", "93.184.215.14", "100.63.0.1", "2606:4700::1111", "64:ff9b::101:101"] {
        assert!(is_public(&text.parse().unwrap()), "{text}");
    }
    for text in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:1.1.1.1",
        "::1.1.1.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!is_public(&text.parse().unwrap()), "{text}");
    }
}
