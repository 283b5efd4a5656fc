//! A certificate for a testbed over TLS, which nobody has to trust.

use std::{fs, path::Path};

use crate::{failure::Failure, project::make_folder};

/// Makes a certificate for `localhost` and 127.0.0.1 in a folder; the files of the certificate and of its key.
pub(crate) fn identity(folder: &Path) -> Result<[String; 2], Failure> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|error| Failure::new(format!("no certificate: {error}")))?;
    make_folder(folder)?;
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Failure::of_path(&path))?;
        Ok::<_, Failure>(path.display().to_string())
    };
    Ok([
        write("cert.pem", made.cert.pem())?,
        write("key.pem", made.signing_key.serialize_pem())?,
    ])
}
