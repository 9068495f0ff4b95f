# signer.bash - a signer of our own for benches; sourced after common.bash
#
# start_signer FOLDER [LINES]: with TLS by a certificate of its own; sets $signer
# (its pid), $signer_url, $ca. rest METHOD PATH TOKEN [BODY]; role_token ROLE ...

start_signer() { # FOLDER [LINES of signer.conf]
	local port
	port=$(free_port)
	signer_url=https://127.0.0.1:$port ca=$1/ca.pem
	mkdir -p "$1/state"
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=bench \
	    -addext subjectAltName=IP:127.0.0.1 -keyout "$1/key.pem" \
	    -out "$ca" 2>/dev/null
	signer_conf=$1/signer.conf
	cat >"$signer_conf" <<-END
	[signer]
	address = 127.0.0.1:$port
	public_url = $signer_url
	state_dir = $1/state
	cert_file = $ca
	key_file = $1/key.pem
	rate_limit = none
	${2:-}
	END
	"$build/signer/edgehaul-signer" --config "$signer_conf" \
	    2>>"$dir/signer.log" &
	signer=$!
	pids+=("$signer")
	listening "$port"
}

role_token() { # TENANT ROLE [ARGUMENTS]
	"$build/signer/edgehaul-signer" --config "$signer_conf" token create \
	    --tenant "$1" --role "${@:2}" | awk 'END { print $NF }'
}

rest() { # METHOD PATH TOKEN [BODY]
	curl -sS --fail-with-body --cacert "$ca" -X "$1" -o "$dir/answer" \
	    -H "Authorization: Bearer $3" -H 'Content-Type: application/json' \
	    ${4:+-d "$4"} "$signer_url$2" || {
		cat "$dir/answer" >&2
		return 1
	}
}

# Documents of a storage of each kind; nobody calls them.
storage_document() { # TYPE
	case $1 in
	S3) echo '{"type": "S3", "bucket": "bench", "region": "us-east-1",
		"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "secret"}' ;;
	AZURE) echo '{"type": "AZURE", "container": "bench", "connectionString":
		"DefaultEndpointsProtocol=https;AccountName=bench;AccountKey='"$(
		head -c 64 /dev/zero | base64 -w 0)"';EndpointSuffix=core.windows.invalid"}' ;;
	GCS)
		[ -e "$dir/rsa.pem" ] ||
		    openssl genpkey -quiet -algorithm RSA -out "$dir/rsa.pem"
		python3 -c 'import json, sys; print(json.dumps({"type": "GCS",
		    "bucket": "bench", "serviceAccount": json.dumps({
		    "client_email": "b@example.com",
		    "private_key": open(sys.argv[1]).read()})}))' "$dir/rsa.pem"
		;;
	esac
}
