#!/usr/bin/perl
# What the signer signs, at real stores that verify it: recipes in one piece
# and in parts, and each way to change a signed request is refused.
use strict;
use warnings;
use Test::More;
use Edgehaul;

my $s = Edgehaul->signer;
my $gw = $s->token('gateway', '--gateway', 'gw-1');
$s->start;

my $f = Edgehaul->follow($s, $gw);

# ---- what is wrong, in words -------------------------------------------------

$f->works('file', type => 'FILE');
my %nowhere = (type => 'S3', bucket => 'shots', accessKeyId => 'a',
    secretAccessKey => 'b', allowHttp => JSON::PP::true());
$f->wrong('dns', qr/resolve/, %nowhere, endpoint => 'http://no-such.invalid');
$f->wrong('refused', qr/connect/i, %nowhere,
    endpoint => 'http://127.0.0.1:' . Edgehaul::free_port());
$f->wrong('tls', qr/SSL|TLS/i, %nowhere,
    endpoint => $s->url =~ s/http:/https:/r);

# Where a tenant could look around in the operator's network.
my $conf = "$s->{dir}/signer.conf";
spit($conf, slurp($conf) =~ s/allow_private = yes/allow_private = no/r);
ok($s->reload, 'SIGHUP');
for my $to ('127.0.0.1', '[::1]', '10.1.2.3', '169.254.169.254',
    '[::ffff:127.0.0.1]', 'localhost') {
	$f->wrong('inside', qr/private/, %nowhere, endpoint => "http://$to:9");
}
spit($conf, slurp($conf) =~ s/allow_private = no/allow_private = yes/r);
ok($s->reload, 'SIGHUP');

# The same signer, but two hours late: by the library of Debian's faketime.
my ($faketime) = glob '/usr/lib/*/faketime/libfaketimeMT.so.1';
sub late {
	my ($name, %doc) = @_;
	local %ENV = (%ENV, LD_PRELOAD => $faketime, FAKETIME => '-2h',
	    FAKETIME_DONT_FAKE_MONOTONIC => 1);
	our $late //= Edgehaul->signer(name => 'late')->start;
	Edgehaul->follow($late, '')->wrong("late-$name",
	    qr/clock of this machine is wrong/, %doc);
}

SKIP: {
	need(1, 'radosgw');
	my $store = Edgehaul->radosgw->bucket('shots');
	$s->storage('s3', $store->storage('shots'), partSize => 5 << 20);
	$f->uploads('s3', $store, 'shots');
	$f->kept_apart('s3');
	my $short = $f->short_lived('s3', $store, 'shots');
	$f->refusals('s3', $store, 'shots');
	$f->parts('s3', $store, 'shots');
	$f->ended($short);
	$f->replaced($store, 'shots');
	my %doc = $store->storage('shots');
	$s->storage('wrong', %doc, secretAccessKey => 'not it');
	my $r = $f->perform($f->sign($f->upload_of('wrong', 'w', 'x'))
		->{requests}[0], 'x');
	is($r->{status}, 403, 's3: a wrong secret');
	is($f->what_to_do('wrong', $r), 'wait', 's3: an operator has to act');
	$s->storage('gone', %doc, bucket => 'no-such-bucket');
	$r = $f->perform($f->sign($f->upload_of('gone', 'w', 'x'))->{requests}[0],
	    'x');
	is($f->what_to_do('gone', $r), 'wait', 's3: the same for a missing bucket');

	$f->works('s3', %doc, partSize => 5 << 20);
	is(scalar(grep { /probe/ } $store->keys('shots')), 0, 'the probe is gone');
	$f->wrong('wrong', qr/secretAccessKey is wrong/, %doc, secretAccessKey => 'x');
	$f->wrong('wrong', qr/accessKeyId/, %doc, accessKeyId => 'nobody');
	$f->wrong('gone', qr/no such bucket/, %doc, bucket => 'no-such-bucket');
	$f->wrong('class', qr/does not take a header/, %doc, storageClass => 'NO_SUCH');
	my $set = $s->rest('PUT', '/v1/storages/fresh', json => \%doc)->{json}{status};
	ok(exists $set->{ok} && !defined $set->{ok}, 'set, and nothing known of it');
	like($set->{hint}, qr{POST /v1/storages/fresh/test}, 'but how to find out');
	is_deeply($s->rest('GET', '/v1/storages/fresh')->{json}{status}, $set, 'until it is done');
	is($s->rest('POST', '/v1/storages/fresh/test')->{json}{ok}, JSON::PP::true(), 'which tells');
	my %listed = map { ($_->{name} => $_->{status}{ok}) }
	    @{ $s->rest('GET', '/v1/storages')->{json}{items} };
	is($listed{fresh}, JSON::PP::true(), 'so does the list of all');
	is($listed{class}, JSON::PP::false(), 'of each');
	my $st = $f->tested('notls', %doc, endpoint => $doc{endpoint} =~ s/http:/https:/r);
	like($st->{hint}, qr/No TLS is spoken.*allowHttp/, 'https to a port without TLS');

	# An HMAC key of Google's: the same protocol, another region.
	$f->works('interop', %doc, region => 'auto');
	SKIP: {
		skip('no faketime with sanitizers', 1) if Edgehaul::sanitized();
		need(1, 'faketime');
		late('s3', %doc);
	}

	# The policy of doc/storage-s3.md is enough, and no more than that.
	my @rgw = ('-c', "$store->{dir}/ceph.conf", '-n', 'client.admin',
	    '--no-mon-config');
	system("radosgw-admin @rgw user create --uid=edge --display-name=edge "
	    . '--access-key=edgeaccess --secret=edgesecret >/dev/null 2>&1');
	my %least = (%doc, accessKeyId => 'edgeaccess',
	    secretAccessKey => 'edgesecret', partSize => 5 << 20);
	$f->wrong('least', qr/^put: The key may not do this/, %least);
	my ($policy) = slurp(Edgehaul::top_srcdir() . '/doc/storage-s3.md')
	    =~ /```json\n(.*?)```/s;
	$policy =~ s/edge-uploads/shots/g;
	$policy = json_decode($policy);
	$_->{Principal} = { AWS => ['arn:aws:iam:::user/edge'] }
	    for @{ $policy->{Statement} };
	my $whole = json_encode($policy);
	for my $st (@{ $policy->{Statement} }) { # but for deleting the probe
		my $actions = ref $st->{Action} ? $st->{Action} : [$st->{Action}];
		$st->{Action} = [grep { !/Delete/ } @$actions];
	}
	$policy->{Statement} = [grep { @{ $_->{Action} } }
		@{ $policy->{Statement} }];
	like($store->request('PUT', '/shots', [['policy', '']],
		json_encode($policy))->{status}, qr/^20/, 'a policy without delete');
	$f->wrong('least', qr/^delete: The key may not do this/, %least);
	like($store->request('PUT', '/shots', [['policy', '']],
		$whole)->{status}, qr/^20/, 'the policy of the doc');
	$f->works('least', %least);
	$r = $f->sign($f->upload_of('least', 'least.jpg', 'abc'));
	ok($f->follow($r, 'abc', {}), 'for uploads');
	ok($f->follow($f->sign($f->upload_of('least', 'least.jpg', 'abc',
		    method => 'HEAD')), 'abc', {}), 'for looking at them');
	$f->parts('least', $store, 'shots', unread => 1);
}

# Azurite as it comes, and behind TLS.
for my $scheme ('http', 'https') {
	my $name = $scheme eq 'http' ? 'azure' : 'azure-tls';
SKIP: {
	need(1, 'azurite', $scheme eq 'http' ? () : ('openssl', 'curl'));
	my ($store, %more);
	if ($scheme eq 'http') {
		$store = Edgehaul->azurite->container('shots');
	} else {
		my ($cert, $key) = Edgehaul->certificate;
		$store = Edgehaul->azurite(scheme => 'https', args => ['--cert',
			$cert, '--key', $key]);
		%more = (certificate => slurp($cert),
		    allowHttp => JSON::PP::false());
	}
	my %doc = ($store->storage('shots'), %more, partSize => 5 << 20);
	$f->works($name, %doc); # which makes the container by TLS
	my $short = $f->short_lived($name, $store, 'shots', %more);
	if ($scheme eq 'http') {
		$f->uploads($name, $store, 'shots');
		$f->kept_apart($name);
		$f->parts($name, $store, 'shots');
		my $made = $s->rest('PUT', '/v1/storages/gone2',
		    json => { $store->storage('not-there-yet') })->{json};
		ok($made->{status}{ok}, 'azure: a container is made when it is '
			. 'named') or diag(json_encode($made->{status}));
		ok($f->follow($f->sign($f->upload_of('gone2', 'w', 'x')), 'x', {}),
		    'azure: and uploads go there at once');
		$s->storage('gone2', $store->storage('not-there-yet'));
		is($s->rest('GET', '/v1/storages/gone2')->{json}{status}{ok},
		    JSON::PP::true(), 'azure: that it is there is no trouble');
		$store->request('DELETE', 'not-there-yet',
		    [restype => 'container']);
		my $r = $f->perform($f->sign($f->upload_of('gone2', 'w', 'x'))
			->{requests}[0], 'x');
		is($f->what_to_do('gone2', $r), 'wait',
		    'azure: a missing container');
		$f->works('made', %doc, container => 'made-by-us');
		SKIP: {
			skip('no faketime with sanitizers', 1)
			    if Edgehaul::sanitized();
			need(1, 'faketime');
			late('azure', %doc);
		}
	} else {
		$f->wrong('untrusted', qr/certificate/i, %doc, certificate => '');
		my $r = $s->rest('PUT', '/v1/storages/plain', json => { %doc,
			connectionString => $doc{connectionString}
			    =~ s/https/http/gr });
		is($r->{status}, 422, 'plain http needs allowHttp');
		$f->parts($name, $store, 'shots');
	}
	$f->refusals($name, $store, 'shots');
	$f->ended($short);
	my $bad = $s->rest('PUT', "/v1/storages/$name-key", json => { %doc,
		container => 'other', connectionString => $doc{connectionString}
		    =~ s/AccountKey=..../AccountKey=AAAA/r })->{json}{status};
	like($bad->{error} // '', qr/other could not be made.*signature.*Auth/,
	    "$name: a wrong key is told at once");
	like($bad->{hint} // '', qr/connection string/, 'and where the right one is');
	$f->wrong("$name-key", qr/signature/, %doc, connectionString =>
	    $doc{connectionString} =~ s/AccountKey=..../AccountKey=AAAA/r);
}
}
finish;
