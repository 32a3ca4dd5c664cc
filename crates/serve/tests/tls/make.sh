#!/usr/bin/env bash
# Certificates of the tests, which protect nothing: two authorities, and of each a server's certificate for this machine, valid from 2020
# to 2119. Run once; the authorities' own keys are not kept.
set -euo pipefail
cd "$(dirname "$0")"
to="$PWD" && work="$(mktemp -d)" && cd "$work"
cat > config <<'END'
[ca]
default_ca = own
[own]
new_certs_dir = .
database = index
serial = serial
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
[req]
distinguished_name = req
END
for name in one two; do
  : > index && echo 01 > serial
  for role in authority server; do
    openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out $role.key
    openssl req -new -config config -key $role.key -subj "/CN=tests, $role $name" -out $role.request
    if [ $role = authority ]; then by="-selfsign"; else by="-cert authority.pem"; fi
    openssl ca -batch -notext -config config $by -keyfile authority.key -extensions $role \
      -startdate 20200101000000Z -enddate 21190101000000Z -in $role.request -out $role.pem
  done
  cp authority.pem "$to/$name-authority.pem" && cp server.pem "$to/$name.pem" && cp server.key "$to/$name-key.pem"
done
rm -rf "$work"
