use std::collections::BTreeMap;

use super::*;

fn offered(lines: &[&str]) -> Option<Offer> {
    Offer::first(lines.iter().map(|line| line.as_bytes()))
}

/// What is answered to `lines`.
fn answer(settings: Deflate, lines: &[&str]) -> Option<String> {
    offered(lines)?.accept(&settings).header
}

#[test]
fn by_default_no_context_is_taken_over() {
    let bare = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for (offer, more) in [
        ("permessage-deflate", ""),
        ("permessage-deflate; client_max_window_bits", ""),
        ("permessage-deflate; client_max_window_bits=15", ""),
        (
            "permessage-deflate; client_max_window_bits=9",
            "; client_max_window_bits=9",
        ),
        (
            "permessage-deflate; server_max_window_bits=15",
            "; server_max_window_bits=15",
        ),
        (
            "permessage-deflate; server_max_window_bits=8; client_max_window_bits=\"10\"",
            "; server_max_window_bits=8; client_max_window_bits=10",
        ),
    ] {
        let expected = Some(format!("{bare}{more}"));
        assert_eq!(answer(Deflate::new(), &[offer]), expected, "{offer}");
    }
}

#[test]
fn a_context_is_taken_over_where_both_want_it() {
    let settings = Deflate::new().context_takeover(true);
    for same in [
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=12",
    ] {
        assert_eq!(answer(settings, &[same]).as_deref(), Some(same));
    }
}

#[test]
fn our_window_is_the_smaller_of_both() {
    let settings = Deflate::new().context_takeover(true).window_bits(11);
    for (asked, answered) in [(8, 8), (11, 11), (12, 11), (15, 11)] {
        let offer = format!("permessage-deflate; server_max_window_bits={asked}");
        let expected = format!("permessage-deflate; server_max_window_bits={answered}");
        assert_eq!(answer(settings, &[&offer]), Some(expected));
    }
    let agreed = offered(&["permessage-deflate"]).unwrap().accept(&settings);
    assert_eq!(agreed.header.as_deref(), Some("permessage-deflate"));
    let terms = agreed.extensions.deflate.unwrap();
    assert_eq!(
        (terms.server.window_bits, terms.client.window_bits),
        (11, 15)
    );
}

/// The parameters of an answer, each of which comes at most once.
fn parameters(answer: &str) -> BTreeMap<&str, Option<u8>> {
    let mut parts = answer.split("; ");
    assert_eq!(parts.next(), Some("permessage-deflate"));
    let mut parameters = BTreeMap::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name, Some(value.parse().unwrap())),
            None => (part, None),
        };
        assert_eq!(parameters.insert(name, value), None, "{answer}");
    }
    parameters
}

/// RFC 7692 §7.1: for every offer there is and everything that we may want.
#[test]
fn every_offer_is_accepted_and_answered_to_the_letter() {
    let windows = || std::iter::once(None).chain((8..=15).map(Some));
    let client_windows = || {
        let bare = std::iter::once(Some(None));
        let with_value = (8..=15).map(|bits| Some(Some(bits)));
        std::iter::once(None).chain(bare).chain(with_value)
    };
    let mut random = fastrand::Rng::with_seed(1);
    for ((server_no, client_no), (server_bits, client_bits)) in cross(
        cross([false, true], [false, true]),
        cross(windows(), client_windows()),
    ) {
        let mut quoted = |bits: u8| match random.bool() {
            true => format!("\"{bits}\""),
            false => bits.to_string(),
        };
        let mut offered: Vec<_> = [
            server_no.then(|| "server_no_context_takeover".to_owned()),
            client_no.then(|| "client_no_context_takeover".to_owned()),
            server_bits.map(|bits| format!("server_max_window_bits={}", quoted(bits))),
            client_bits.map(|bits| match bits {
                Some(bits) => format!("client_max_window_bits={}", quoted(bits)),
                None => "client_max_window_bits".to_owned(),
            }),
        ]
        .into_iter()
        .flatten()
        .collect();
        random.shuffle(&mut offered);
        offered.insert(0, "permessage-deflate".to_owned());
        let offer = offered.join("; ");
        for (keeps, own_bits) in cross([false, true], 8..=15) {
            let settings = Deflate::new().context_takeover(keeps).window_bits(own_bits);
            let agreed = offered_one(&offer).accept(&settings);
            let header = agreed.header.unwrap();
            let terms = agreed.extensions.deflate.unwrap();
            let answer = parameters(&header);
            let flag = |name| {
                answer
                    .get(name)
                    .map(|value| assert_eq!(*value, None))
                    .is_some()
            };
            let bits = |name| answer.get(name).map(|value| value.unwrap());

            // §7.1.1.1 and §7.1.1.2: granted where it is asked for, and said
            // where it is done.
            let said = flag("server_no_context_takeover");
            assert!(said || !server_no, "{offer}: {header}");
            assert_eq!(terms.server.takeover, !said);
            let said = flag("client_no_context_takeover");
            assert!(said || !client_no, "{offer}: {header}");
            assert_eq!(terms.client.takeover, !said);
            assert_eq!(terms.server.takeover, keeps && !server_no);
            assert_eq!(terms.client.takeover, keeps && !client_no);

            // §7.1.2.1: said where it is asked for, and never larger.
            let said = bits("server_max_window_bits");
            assert_eq!(said.is_some(), server_bits.is_some(), "{offer}: {header}");
            assert!(said <= server_bits, "{offer}: {header}");
            assert!(terms.server.window_bits <= said.unwrap_or(15));
            assert_eq!(
                terms.server.window_bits,
                own_bits.min(server_bits.unwrap_or(15))
            );

            // §7.1.2.2: only where the client knows it, and never larger.
            let said = bits("client_max_window_bits");
            assert!(said.is_none() || client_bits.is_some(), "{offer}: {header}");
            let asked = client_bits.flatten().unwrap_or(15);
            assert!(said.is_none_or(|said| said <= asked), "{offer}: {header}");
            // What a client offers with a value it does whatever the answer is.
            assert_eq!(terms.client.window_bits, said.unwrap_or(15).min(asked));
            for name in answer.keys() {
                let known = ["_no_context_takeover", "_max_window_bits"];
                let name = name
                    .trim_start_matches("server")
                    .trim_start_matches("client");
                assert!(known.contains(&name), "{header}");
            }
        }
    }
}

fn cross<A: Clone, B: Clone>(
    left: impl IntoIterator<Item = A>,
    right: impl IntoIterator<Item = B>,
) -> impl Iterator<Item = (A, B)> {
    let left: Vec<_> = left.into_iter().collect();
    let right: Vec<_> = right.into_iter().collect();
    left.into_iter()
        .flat_map(move |a| right.clone().into_iter().map(move |b| (a.clone(), b)))
}

fn offered_one(offer: &str) -> Offer {
    offered(&[offer]).unwrap_or_else(|| panic!("{offer} is declined"))
}

#[test]
fn the_first_acceptable_offer_wins() {
    for lines in [
        &["permessage-deflate; server_max_window_bits=9, permessage-deflate"][..],
        &[
            "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=9",
        ],
        &[
            "x-webkit-deflate-frame, foo; bar=\"a, permessage-deflate; b\"",
            ",, permessage-deflate ;\tserver_max_window_bits = 9 ",
        ],
        &[
            "permessage-deflate; unknown",
            "permessage-deflate; server_max_window_bits=\"9\"",
        ],
        &[
            "permessage-deflate;, permessage-deflate; server_max_window_bits=\"\\9\"; client_max_window_bits",
        ],
    ] {
        let offer = offered(lines).unwrap();
        assert_eq!(offer.server_max_window_bits, Some(9), "{lines:?}");
    }
}

#[test]
fn what_is_malformed_or_unknown_declines_the_offer() {
    for parameters in [
        "",
        "; ",
        "; foo",
        "; foo=1",
        "; server_no_context_takeover=1",
        "; client_no_context_takeover=\"\"",
        "; server_no_context_takeover; server_no_context_takeover",
        "; client_max_window_bits; client_max_window_bits=9",
        "; server_max_window_bits",
        "; server_max_window_bits=",
        "; server_max_window_bits=7",
        "; server_max_window_bits=16",
        "; server_max_window_bits=08",
        "; server_max_window_bits=008",
        "; server_max_window_bits=1",
        "; server_max_window_bits=-9",
        "; server_max_window_bits=0x9",
        "; server_max_window_bits='9'",
        "; server_max_window_bits=\"09\"",
        "; server_max_window_bits=\" 9\"",
        "; server_max_window_bits=9; server_max_window_bits=9",
        "; client_no_context_takeover; client_no_context_takeover",
        "; client_max_window_bits=8; client_max_window_bits",
        "; client_max_window_bits=16",
        "; client_max_window_bits=7",
        "; client_max_window_bits=010",
        "; server_max_window_bits=18446744073709551625",
        "; server_max_window_bits=+9",
        "; server_max_window_bits=1 0",
        "; server_max_window_bits=\"10",
        "; server_max_window_bits=10\"",
        "; server_max_window_bits=\"1\\",
        "; client_max_window_bits=0",
        "; client_max_window_bits=",
        "; client_max_window_bits=15.0",
        "; client_max_window_bits=\"\"",
        "; \"server_no_context_takeover\"",
        "; SERVER_no_context_takeover",
    ] {
        if !parameters.is_empty() {
            let offer = format!("permessage-deflate{parameters}");
            assert_eq!(offered(&[&offer]), None, "{offer}");
        }
    }
    for other in [
        "",
        ",",
        "permessage-deflate2",
        "deflate",
        "\"permessage-deflate\"",
    ] {
        assert_eq!(offered(&[other]), None, "{other}");
    }
}

#[cfg(feature = "client")]
mod asked {
    use super::*;

    fn agree<'a>(settings: Deflate, lines: &[&'a str]) -> Result<Option<Terms>, &'a str> {
        let agreed = Asked::new(settings).agree(lines.iter().map(|line| line.as_bytes()));
        agreed
            .map(|agreement| agreement.extensions.deflate)
            .map_err(|element| std::str::from_utf8(element).unwrap())
    }

    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn the_offer_says_what_is_set() {
        let keeps = Deflate::new().context_takeover(true);
        for (settings, expected) in [
            (Deflate::new(), format!("{PLAIN}; client_max_window_bits")),
            (
                Deflate::new().window_bits(10),
                format!("{PLAIN}; client_max_window_bits=10"),
            ),
            (
                keeps,
                "permessage-deflate; client_max_window_bits".to_owned(),
            ),
        ] {
            assert_eq!(Asked::new(settings).header(), expected);
            // Our own server takes it.
            assert!(offered(&[&expected]).is_some());
        }
    }

    #[test]
    fn the_answer_may_have_less_than_was_asked_for() {
        let keeps = Deflate::new().context_takeover(true).window_bits(12);
        assert_eq!(agree(keeps, &[]), Ok(None));
        assert_eq!(agree(keeps, &["", " , "]), Ok(None));
        for (line, server, client) in [
            ("permessage-deflate", (true, 15), (true, 12)),
            (PLAIN, (false, 15), (false, 12)),
            (
                "permessage-deflate;client_max_window_bits=9; server_max_window_bits=\"8\"",
                (true, 8),
                (true, 9),
            ),
        ] {
            let terms = agree(keeps, &[line]).unwrap().unwrap();
            let told = |direction: Direction| (direction.takeover, direction.window_bits);
            assert_eq!((told(terms.server), told(terms.client)), (server, client));
        }
        // Whoever has no context needs none of its own server's consent.
        let alone = "permessage-deflate; server_no_context_takeover";
        let terms = agree(Deflate::new(), &[alone]).unwrap().unwrap();
        assert!(!terms.client.takeover && !terms.server.takeover);
    }

    #[test]
    fn the_answer_must_go_with_the_offer() {
        let keeps = Deflate::new().context_takeover(true).window_bits(12);
        for wrong in [
            "permessage-bzip2",
            "permessage-deflate; unknown",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=13",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        ] {
            assert_eq!(agree(keeps, &[wrong]), Err(wrong));
        }
        assert_eq!(agree(keeps, &[PLAIN, "x"]), Err("x"));
        assert_eq!(
            agree(keeps, &["permessage-deflate, permessage-deflate"]),
            Err("permessage-deflate")
        );
        // It would keep a context that nobody wanted to pay for.
        let bare = "permessage-deflate";
        assert_eq!(agree(Deflate::new(), &[bare]), Err(bare));
    }
}
