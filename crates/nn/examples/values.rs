//! What a network computes in the clear, in f64: `values NETWORK INPUT OUTPUT`, inputs and outputs little-endian f64, row-major; or `values LIST`
//! with such triples a line, of which each gives a line: `ok`, or what is refused.

use polyveil_nn::format::{Content, open};
use polyveil_nn::{Error, Graph, Tensor};
use std::path::Path;
use std::process::ExitCode;

fn values(network: &str, input: &str, output: &str) -> Result<(), String> {
    let text = |e: Error| e.to_string();
    let graph: Graph = match open(Path::new(network), None).map_err(text)? {
        Content::Trained(graph, _) => graph,
        Content::Polynomial(graph) => {
            let network = graph.network().clone();
            network.try_map(|_, p| Ok(p.into())).map_err(text)?
        }
        _ => return Err("it is no whole network".into()),
    };
    let raw = std::fs::read(input).map_err(|e| format!("{input}: {e}"))?;
    let x = (raw.chunks_exact(8))
        .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]));
    let x = Tensor::new(graph.input().shape(), x.collect()).map_err(text)?;
    let y = graph.evaluate(&x).map_err(text)?.output;
    let bytes: Vec<u8> = y.values().iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(output, bytes).map_err(|e| format!("{output}: {e}"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [network, input, output] => match values(network, input, output) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("{e}");
                ExitCode::FAILURE
            }
        },
        [list] => {
            let list = std::fs::read_to_string(list).unwrap_or_default();
            for line in list.lines() {
                let parts: Vec<&str> = line.split_whitespace().collect();
                let &[network, input, output] = &parts[..] else {
                    continue;
                };
                match values(network, input, output) {
                    Ok(()) => println!("ok"),
                    Err(e) => println!("{}", e.replace('\n', " ")),
                }
            }
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("values NETWORK INPUT OUTPUT, or values LIST");
            ExitCode::FAILURE
        }
    }
}
