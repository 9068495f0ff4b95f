#!/usr/bin/perl
# What the signer signs, at real stores that verify it: recipes in one piece
# and in parts, and each way to change a signed request is refused.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Digest::MD5 qw(md5_hex md5_base64);
use IO::Socket::INET;
use MIME::Base64 ();

my $s = Edgehaul->signer;
my $gw = $s->token('gateway', '--gateway', 'gw-1');
$s->start;

sub sign {
	my (%up) = @_;
	my $r = Edgehaul::http('POST', $s->url . '/v1/sign', token => $gw,
	    json => { uploads => [{ id => 'x', %up }] });
	my $res = $r->{json}{results}[0];
	diag($r->{content}) if !$res->{recipe};
	return $res->{recipe};
}
sub upload_of {
	my ($storage, $key, $body, %more) = @_;
	return (storage => $storage, key => $key, size => length $body,
	    sha256 => sha256_hex($body), %more);
}

# Do what an agent does with one request; undef or the answer.
sub perform {
	my ($rq, $body, %o) = @_;
	my $content = !$rq->{body} ? undef
	    : $rq->{body}{file} ? $body
	    : $rq->{body}{range} ? substr($body, $rq->{body}{range}{offset},
		$rq->{body}{range}{length}) : $rq->{body}{text};
	my %h = (%{ $rq->{headers} }, %{ $o{headers} // {} });
	delete $h{$_} for @{ $o{without} // [] };
	my $r = Edgehaul::http($o{method} // $rq->{method},
	    $o{uri} // $rq->{uri}, headers => \%h,
	    defined $content ? (content => $o{content} // $content)
	    : $rq->{method} =~ /^P/ ? (content => '') : ());
	$r->{sent} = $content;
	return $r;
}

# A whole recipe; the values kept are added to %$kept. True if all went well.
sub follow {
	my ($recipe, $body, $kept) = @_;
	my $r;
	for my $rq (@{ $recipe->{requests} }) {
		$r = perform($rq, $body);
		if (!grep { $_ == $r->{status} } @{ $rq->{ok} }) {
			diag("$rq->{method}: $r->{status} $r->{content}");
			return 0;
		}
		for my $name (keys %{ $rq->{keep} // {} }) {
			my $k = $rq->{keep}{$name};
			my $v = $k->{header} ? $r->{headers}{ lc $k->{header} }
			    : ($r->{content} =~ m{<$k->{tag}>([^<]*)<})[0];
			return 0 if !defined $v;
			$v =~ s/&quot;/"/g;
			$kept->{$name} = $v;
		}
	}
	my $v = $recipe->{verify};
	my $sent = $r->{sent} // $body;
	return 0 if $v->{size} && $r->{headers}{'content-length'} != length $body;
	return 1 if !$v->{header};
	(my $got = $r->{headers}{ lc $v->{header} } // '') =~ s/"//g;
	my %digest = ('md5-hex' => md5_hex($sent), 'md5-base64' =>
		md5_base64($sent) . '==', 'sha256-hex' => sha256_hex($sent));
	diag("verify $v->{header}: $got") if $got ne $digest{ $v->{digest} };
	return $got eq $digest{ $v->{digest} };
}

# What the answers' table tells to do.
sub what_to_do {
	my ($storage, $r) = @_;
	our %answers;
	$answers{$storage} //= Edgehaul::http('POST', $s->url . '/v1/sign',
	    token => $gw, json => { uploads => [{ id => 'a', key => 'a',
		    storage => $storage }] })->{json}{answers}{$storage};
	my ($code) = $r->{content} =~ m{<Code>([^<]*)<};
	$code //= $r->{headers}{'x-ms-error-code'} // '';
	for my $row (@{ $answers{$storage} }) {
		next if $row->{status} != $r->{status};
		next if defined $row->{code} && $row->{code} ne $code;
		return $row->{do};
	}
	return "nothing ($r->{status} $code)";
}

my @hard = ('plain.jpg', 'with blank.jpg', 'a+b&c=d%20e.jpg', "caf\xc3\xa9.jpg",
    '~tilde/(x)!*\'.jpg', 'q?u#e.jpg');

sub common {
	my ($name, $store, $bucket) = @_;
	my $body = 'picture ' x 5000;
	for my $key (@hard) {
		my $text = $key;
		utf8::decode($text);
		my $recipe = sign(upload_of($name, $text, $body,
			contentType => 'image/jpeg', contentEncoding => 'identity',
			metadata => { 'original-size' => '7' }));
		ok(follow($recipe, $body, {}), "$name: $key is taken");
		my $o = $store->object($bucket, "gw-1/$key");
		is($o && sha256_hex($o->{body}), sha256_hex($body),
		    "$name: byte for byte");
		is($o && $o->{type}, 'image/jpeg', "$name: its type");
		ok(follow(sign(upload_of($name, $text, $body, method => 'HEAD')),
			$body, {}), "$name: HEAD verifies it");
		last if $key eq $hard[0] && !$o;
	}
	my $recipe = sign(upload_of($name, $hard[0], $body,
		contentType => 'image/jpeg'));
	my $r = perform($recipe->{requests}[0], $body);
	cmp_ok($r->{status}, '>=', 400, "$name: nothing is written over");
	is(what_to_do($name, $r), 'verify', "$name: verify is what to do");
	is(perform(sign(storage => $name, key => 'none', method => 'HEAD')
		->{requests}[0], '')->{status}, 404, "$name: HEAD of nothing");

	# Each change is refused, and nothing comes of it.
	$recipe = sign(upload_of($name, 'changed', $body,
		contentType => 'image/jpeg'));
	my $rq = $recipe->{requests}[0];
	my %change = (
		signature => { uri => $rq->{uri} =~ s/(sig|Signature)=(.)/
			"$1=" . ($2 eq 'a' ? 'b' : 'a')/er },
		key => { uri => $rq->{uri} =~ s/changed/other/r },
		expiry => { uri => $rq->{uri} =~ s/(Expires=|se=20)(\d)/
			$1 . ($2 + 1)/er },
		method => { method => 'DELETE' },
	);
	$change{type} = { headers => { 'content-type' => 'text/html' } }
	    if $rq->{headers}{'content-type'};
	$change{length} = { content => $body . 'x' }
	    if $rq->{headers}{'content-type'};
	for my $what (sort keys %change) {
		$r = perform($rq, $body, %{ $change{$what} });
		is($r->{status}, 403, "$name: refused: another $what")
		    or diag($r->{content});
	}
	is(scalar(grep { m{/(changed|other)} } $store->keys($bucket)), 0,
	    "$name: and nothing came of it");
	Edgehaul::http('PUT', $s->url . "/v1/storages/$name-old",
	    token => $s->admin, json => { $store->storage($bucket),
		    expirationDuration => 'PT1S' });
	my $old = sign(upload_of("$name-old", 'old', $body));
	select undef, undef, undef, 2.2;
	$r = perform($old->{requests}[0], $body);
	is($r->{status}, 403, "$name: refused: expired");
	is(what_to_do($name, $r), 'sign', "$name: a new URI is what to do");
}

sub parts {
	my ($name, $store, $bucket) = @_;
	my $body = join '', map { chr($_ & 255) x 4096 } 1 .. 3000;
	my %up = upload_of($name, 'film.mp4', $body, contentType => 'video/mp4');
	my $recipe = sign(%up);
	my $kept = {};
	is($recipe->{parts}{count}, 3, "$name: a large one goes in 3 parts");
	is($recipe->{step}, 'part', "$name: a part comes next");
	ok(follow($recipe, '', $kept), "$name: start");
	for my $n (3, 1, 2, 2) { # any order, and one of them again
		ok(follow(sign(%up, step => 'part', part => $n, kept => $kept),
			$body, $kept), "$name: part $n");
	}
	ok(follow(sign(%up, step => 'finish', kept => $kept), $body, $kept),
	    "$name: finish, and it is verified");
	if ($name ne 'least') { # whose objects the owner of the bucket cannot read
		my $o = $store->object($bucket, 'gw-1/film.mp4');
		is($o && sha256_hex($o->{body}), sha256_hex($body),
		    "$name: byte for byte");
		is($o && $o->{type}, 'video/mp4', "$name: its type");
	}
	%up = (%up, key => 'given-up.mp4');
	$kept = {};
	ok(follow(sign(%up), '', $kept), "$name: start another");
	ok(follow(sign(%up, step => 'abort', kept => $kept), '', {}),
	    "$name: abort it");
}

# POST .../test tells in words what is wrong.
sub tested {
	my ($name, %doc) = @_;
	$s->storage($name, %doc);
	my $r = $s->rest('POST', "/v1/storages/$name/test");
	is($r->{status}, 200, "$name: tested");
	is_deeply($s->rest('GET', "/v1/storages/$name")->{json}{status},
	    $r->{json}, "$name: GET shows how it went");
	return $r->{json};
}
sub wrong {
	my ($name, $like, %doc) = @_;
	my $st = tested($name, %doc);
	ok(!$st->{ok}, "$name: it does not work");
	like($st->{error}, $like, "$name: told in words");
	ok($st->{hint}, "$name: and what to do");
}
my $st = tested('file', type => 'FILE');
ok($st->{ok}, 'FILE works') or diag(json_encode($st));
my %nowhere = (type => 'S3', bucket => 'shots', accessKeyId => 'a',
    secretAccessKey => 'b', allowHttp => JSON::PP::true());
wrong('dns', qr/resolve/, %nowhere, endpoint => 'http://no-such.invalid');
wrong('refused', qr/connect/i, %nowhere,
    endpoint => 'http://127.0.0.1:' . Edgehaul::free_port());
wrong('tls', qr/SSL|TLS/i, %nowhere, endpoint => $s->url =~ s/http:/https:/r);

SKIP: {
	need(1, 'radosgw');
	my $store = Edgehaul->radosgw->bucket('shots');
	$s->storage('s3', $store->storage('shots'), partSize => 5 << 20);
	common('s3', $store, 'shots');
	parts('s3', $store, 'shots');
	my %doc = $store->storage('shots');
	$s->storage('wrong', %doc, secretAccessKey => 'not it');
	my $r = perform(sign(upload_of('wrong', 'w', 'x'))->{requests}[0], 'x');
	is($r->{status}, 403, 's3: a wrong secret');
	is(what_to_do('wrong', $r), 'wait', 's3: an operator has to act');
	$s->storage('gone', %doc, bucket => 'no-such-bucket');
	$r = perform(sign(upload_of('gone', 'w', 'x'))->{requests}[0], 'x');
	is(what_to_do('gone', $r), 'wait', 's3: the same for a missing bucket');

	$st = tested('s3', %doc, partSize => 5 << 20);
	ok($st->{ok}, 's3 works') or diag(json_encode($st));
	is(scalar(grep { /probe/ } $store->keys('shots')), 0, 'the probe is gone');
	wrong('wrong', qr/secretAccessKey is wrong/, %doc, secretAccessKey => 'x');
	wrong('wrong', qr/accessKeyId/, %doc, accessKeyId => 'nobody');
	wrong('gone', qr/no such bucket/, %doc, bucket => 'no-such-bucket');

	# The policy of doc/storage-s3.md is enough, and no more than that.
	my @rgw = ('-c', "$store->{dir}/ceph.conf", '-n', 'client.admin',
	    '--no-mon-config');
	system("radosgw-admin @rgw user create --uid=edge --display-name=edge "
	    . '--access-key=edgeaccess --secret=edgesecret >/dev/null 2>&1');
	my ($policy) = slurp(Edgehaul::top_srcdir() . '/doc/storage-s3.md')
	    =~ /```json\n(.*?)```/s;
	$policy =~ s/edge-uploads/shots/g;
	$policy = json_decode($policy);
	$_->{Principal} = { AWS => ['arn:aws:iam:::user/edge'] }
	    for @{ $policy->{Statement} };
	like($store->request('PUT', '/shots', [['policy', '']],
		json_encode($policy))->{status}, qr/^20/, 'the policy of the doc');
	my %least = (%doc, accessKeyId => 'edgeaccess',
	    secretAccessKey => 'edgesecret', partSize => 5 << 20);
	$st = tested('least', %least);
	ok($st->{ok}, 'is enough for the test') or diag(json_encode($st));
	$r = sign(upload_of('least', 'least.jpg', 'abc'));
	ok(follow($r, 'abc', {}), 'for uploads');
	ok(follow(sign(upload_of('least', 'least.jpg', 'abc', method => 'HEAD')),
		'abc', {}), 'for looking at them');
	parts('least', $store, 'shots');

	# A role's sessions, cut down to the prefix of the gateway.
	$store->stop_quietly;
	local $ENV{RADOSGW_STS} = 1;
	$store = Edgehaul->radosgw->bucket('shots');
	%doc = $store->storage('shots');
	$s->storage('s3', %doc);
	my @admin = ('radosgw-admin', '-c', "$store->{dir}/ceph.conf", '-n',
	    'client.admin', '--no-mon-config');
	system("@admin role create --role-name=edge --path=/ '--assume-role-policy-doc="
	    . json_encode({ Version => '2012-10-17', Statement => [{ Effect =>
		'Allow', Principal => { AWS => ['arn:aws:iam:::user/test'] },
		Action => ['sts:AssumeRole'] }] }) . "' >/dev/null 2>&1");
	system("@admin role-policy put --role-name=edge --policy-name=p '--policy-doc="
	    . json_encode({ Version => '2012-10-17', Statement => [{ Effect =>
		'Allow', Action => ['s3:*'], Resource => 'arn:aws:s3:::*' }] })
	    . "' >/dev/null 2>&1");
	my %role = (%doc, roleArn => 'arn:aws:iam:::role/edge');
	$r = $s->rest('PUT', '/v1/storages/role', json => \%role);
	is($r->{json}{status}{ok}, JSON::PP::true(), 'a session is got at once')
	    or diag($r->{content});
	ok(tested('role', %role)->{ok}, 'and works');
	my $recipe = sign(upload_of('role', 'by-role', 'abc'));
	like($recipe->{uri}, qr/X-Amz-Security-Token=/, 'signed with a session');
	ok(follow($recipe, 'abc', {}), 'which the store takes');
	cmp_ok($recipe->{expiresIn}, '<=', 3600, 'no longer than the session');
	$r = $s->rest('PUT', '/v1/storages/norole',
	    json => { %role, roleArn => 'arn:aws:iam:::role/none' });
	is($r->{json}{status}{ok}, JSON::PP::false(), 'a role that is not there');
	my ($bad, $good) = @{ Edgehaul::http('POST', $s->url . '/v1/sign', token =>
		$gw, json => { uploads => [{ id => '1', upload_of('norole', 'x', 'x') },
			{ id => '2', upload_of('s3', 'x', 'x') }] })->{json}{results} };
	is($bad->{error}{status}, 503, 'its uploads have to wait');
	ok($bad->{error}{retryAfter}, 'it says how long');
	ok($good->{recipe}, 'those to another storage do not');
}
SKIP: {
	need(1, 'azurite');
	my $store = Edgehaul->azurite->container('shots');
	$s->storage('azure', $store->storage('shots'), partSize => 5 << 20);
	common('azure', $store, 'shots');
	parts('azure', $store, 'shots');
	$s->storage('gone2', $store->storage('no-such-one'));
	my $r = perform(sign(upload_of('gone2', 'w', 'x'))->{requests}[0], 'x');
	is(what_to_do('gone2', $r), 'wait', 'azure: a missing container');
	my %doc = $store->storage('shots');
	$st = tested('azure', %doc);
	ok($st->{ok}, 'azure works') or diag(json_encode($st));
	$st = tested('made', %doc, container => 'made-by-us');
	ok($st->{ok}, 'a missing container is made') or diag(json_encode($st));
	wrong('wrong2', qr/signature/, %doc, connectionString =>
	    $doc{connectionString} =~ s/AccountKey=..../AccountKey=AAAA/r);
}

# ---- user delegation keys: a token service, TLS, OAuth --------------------

# A token service that answers each request from @answers, the last for good.
sub token_service {
	my (@answers) = @_;
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5)
	    or die;
	my $port = $listen->sockport;
	my $pid = fork // die;
	return ($pid, "http://127.0.0.1:$port") if $pid;
	$SIG{TERM} = 'DEFAULT';
	while (my $c = $listen->accept) {
		my $in = '';
		sysread $c, $in, 65536, length $in
		    while $in !~ /\r\n\r\n.*client_secret=/s;
		my $answer = @answers > 1 ? shift @answers : $answers[0];
		$answer = { access_token => 'no' } if $in !~ /client_secret=it\b/;
		my $text = ref $answer ? json_encode($answer) : $answer;
		print $c "HTTP/1.1 200 OK\r\nContent-Length: " . length($text)
		    . "\r\nConnection: close\r\n\r\n$text";
		close $c;
	}
	require POSIX;
	POSIX::_exit(0);
}

sub jwt {
	my $now = time;
	return join '.', map { MIME::Base64::encode_base64url($_) }
	    '{"alg":"RS256","typ":"JWT"}', json_encode({
		aud => 'https://storage.azure.com', iat => $now, nbf => $now - 60,
		exp => $now + 3600, ver => '1.0', oid => '1111-22',
		iss => 'https://sts.windows.net/3333-44/', tid => '3333-44' }),
	    'unchecked';
}

SKIP: {
	need(1, 'azurite', 'openssl');
	my $dir = Edgehaul->dir('tls');
	system("openssl req -x509 -newkey rsa:2048 -nodes -keyout $dir/key.pem "
	    . "-out $dir/cert.pem -days 2 -subj /CN=localhost -addext "
	    . "subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null") == 0 or die;
	my $store = Edgehaul->azurite(scheme => 'https', args => ['--cert',
		"$dir/cert.pem", '--key', "$dir/key.pem", '--oauth', 'basic']);
	my ($pid, $authority) = token_service({ token_type => 'Bearer',
		expires_in => 3599, access_token => jwt() });
	my %doc = (type => 'AZURE', endpoint => $store->endpoint, tenantId =>
	    '3333-44', clientId => 'app', clientSecret => 'it', authority =>
	    $authority, allowHttp => JSON::PP::true(), container => 'by-oauth',
	    certificate => slurp("$dir/cert.pem"));
	my $st = tested('oauth', %doc);
	ok($st->{ok}, 'a user delegation key signs, and a container is made')
	    or diag(json_encode($st));
	my $r = sign(upload_of('oauth', 'k', 'x'));
	like($r->{uri}, qr/&skoid=1111-22&/, 'it is a user delegation SAS');
	ok($r->{certificateId}, 'the agent is told which CA');
	is(Edgehaul::http('GET', $s->url . "/v1/certificates/$r->{certificateId}",
		token => $gw)->{content}, slurp("$dir/cert.pem"), 'and gets it');
	wrong('tls2', qr/certificate/i, %doc, certificate => '');
	wrong('secret2', qr/Delegation Key/, %doc, clientSecret => 'old');
	kill 'TERM', $pid;
	waitpid $pid, 0;
	wrong('down', qr/token service/, %doc);
	($pid, $authority) = token_service('rubbish');
	wrong('rubbish', qr/token service/, %doc, authority => $authority);
	ok(sign(upload_of('oauth', 'k', 'x')), 'a key that is there goes on');
	kill 'TERM', $pid;
	waitpid $pid, 0;
}
finish;
