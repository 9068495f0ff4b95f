#!/usr/bin/perl
# No secret of a provider is at the gateway: not in its state, its logs, the
# memory of its daemons, nor on the wire to the signer. No signature stays on its
# disk, no presigned URI gets into a log. Keys, an AWS role and OAuth, uploads
# whole and in parts, delivered and refused.
use strict;
use warnings;
use Edgehaul;
use File::Find ();
use MIME::Base64 ();
use Test::More;

Edgehaul->need_all('radosgw', 'azurite', 'openssl');
local $ENV{RADOSGW_STS} = 1;
my $rgw = Edgehaul->radosgw->bucket('shots');
my $role = $rgw->role('edge');
my ($cert, $key) = Edgehaul->certificate;
my $azurite = Edgehaul->azurite(scheme => 'https',
	args => ['--cert', $cert, '--key', $key, '--oauth', 'basic']);
$azurite->container($_) for qw(shots by-oauth);
my $tokens = Edgehaul->tokens;
# What the signer asks the providers for, so that we know their secrets.
my $sts = Edgehaul->detour("127.0.0.1:$rgw->{port}")->mode('pass', record => 1);
my $oauth = Edgehaul->detour($tokens->authority)->mode('pass', record => 1);

my $signer = Edgehaul->signer;
$signer->admin;
my $token = $signer->token('gateway', '--gateway', 'gw-1');
$signer->start;
my $wire = Edgehaul->detour($signer->url =~ s{http://}{}r)
    ->mode('pass', record => 1);
my $gw = Edgehaul->gateway(signer => 'http://' . $wire->authority,
    token => $token, conf => { images => { mode => 'lossless' } });
$gw->proxy->start;
$gw->agent->start;

my $pem = slurp($cert);
my %s3 = ($rgw->storage('shots'), partSize => 5 << 20);
my %storage = (
	key => \%s3,
	role => { %s3, roleArn => $role,
		stsEndpoint => 'http://' . $sts->authority },
	azure => { $azurite->storage('shots'), certificate => $pem,
		partSize => 5 << 20 },
	oauth => { type => 'AZURE', tenantId => '3333-44', clientId => 'app',
		clientSecret => 'it', container => 'by-oauth',
		endpoint => $azurite->endpoint, allowHttp => JSON::PP::true(),
		authority => 'http://' . $oauth->authority, certificate => $pem },
	refused => { %s3, secretAccessKey => 'anotherSecret46' },
);
$signer->storage($_, %{ $storage{$_} }) for sort keys %storage;
my $big = 'large body ' x 600_000;

# ---- a full run -------------------------------------------------------------
my $delivered = 0;
for my $name (qw(key role azure oauth)) {
	$gw->configure(upload => { storage => $name });
	$gw->agent->reload;
	for my $body (jpeg(), "$name small", $name =~ /key|azure/ ? $big : ()) {
		my $r = $gw->put("/upload/cam-1/$name.bin", $body . $name);
		is($r->{status}, 201, "$name: taken");
		$delivered++;
	}
	ok($gw->drained(60, $delivered), "$name: delivered")
	    or diag(explain([$gw->queue_ls]));
}
$gw->configure(upload => { storage => 'refused' });
$gw->agent->reload;
my $id = $gw->put('/upload/cam-1/r.bin', 'refused')->{json}{id};
ok(wait_for(sub { grep { $_->{id} eq $id && $_->{last_error} =~ /403/ }
	$gw->queue_ls }), 'one is refused by the store');
# A large one under way, slowly, when memory is looked at.
$gw->configure(upload => { storage => 'key', rate_limit => '100 KB' });
$gw->agent->reload;
my $slow = $gw->put('/upload/cam-1/slow.bin', $big)->{json}{id};
ok(wait_for(sub { grep { $_->{id} eq $slow && $_->{state} eq 'sending' }
	$gw->queue_ls }), 'one is being sent');

# ---- what must not be found -------------------------------------------------
my %secret = (
	'S3 key' => $rgw->{secret},
	'S3 key that is refused' => 'anotherSecret46',
	'key of the account' => $azurite->{key},
	'key of the account, decoded' => MIME::Base64::decode_base64($azurite->{key}),
);
($secret{"the role's secret"}) = $sts->record
    =~ m{<SecretAccessKey>([^<]+)</SecretAccessKey>};
($secret{'OAuth token'}) = $oauth->record =~ /"access_token":\s*"([^"]+)"/;
($secret{'OAuth request'}) = $oauth->record =~ /(client_secret=it)/;
ok(length($secret{$_} // '') >= 10, "we know it: $_") for sort keys %secret;

my %place = map { ("log of $_->{name}" => $_->log) } $gw->proxy, $gw->agent;
File::Find::find({ no_chdir => 1, wanted => sub {
	$place{ 'file ' . substr $_, 1 + length $gw->{dir} } = slurp($_)
	    if -f $_ && $_ !~ m{\.log$};
} }, $gw->{dir});
ok((grep { /index\/data.mdb/ } keys %place), 'the spool is looked at');
my %disk = %place;
$place{'the wire'} = $wire->record;
like($place{'the wire'}, qr/X-Amz-Signature.*sig=/s, 'the wire was recorded');

# All that a process may write to: its heap, stacks, buffers.
sub memory {
	my ($pid) = @_;
	my $all = '';
	open my $mem, '<:raw', "/proc/$pid/mem" or return undef;
	for (split /\n/, slurp("/proc/$pid/maps")) {
		my ($from, $to, $path) = /^(\w+)-(\w+) rw\S* \S+ \S+ \S+\s*(.*)/
		    or next;
		next if $path =~ m{data\.mdb|/dev/};
		no warnings "portable"; # addresses have 64 bits
		my ($at, $n) = (hex $from, hex($to) - hex $from);
		next if $n > 1 << 30;
		sysseek $mem, $at, 0 or next;
		while ($n > 0) {
			my $got = sysread $mem, my $buf, $n > 1 << 20 ? 1 << 20 : $n;
			last if !$got;
			$all .= $buf;
			$n -= $got;
		}
	}
	return $all;
}
SKIP: {
	skip('kernel: the memory of processes cannot be read', 3)
	    if !defined memory($gw->agent->pid);
	skip('the sanitizers\' maps are too large', 3) if Edgehaul::sanitized();
	my @pids = map { $_->pid } $gw->proxy, $gw->agent;
	push @pids, split ' ', slurp("/proc/$pids[1]/task/$pids[1]/children");
	$place{"memory of process $_"} = memory($_) // '' for @pids;
	ok(index($place{"memory of process $pids[1]"}, $token) >= 0,
		'what is in the memory is found: the gateway\'s own token');
	ok(index(memory($signer->pid), $rgw->{secret}) >= 0,
		'and the secret in that of the signer');
	cmp_ok(scalar @pids, '>', 2, 'workers of images are looked at as well');
}
for my $what (sort keys %secret) {
	my @found = grep { index($place{$_}, $secret{$what}) >= 0 } sort keys %place;
	is("@found", '', "nowhere: $what");
}
my $uri = qr{X-Amz-(?:Signature|Credential|Security-Token)|[?&]sig=|sig=\w{20}};
is(join(' ', grep { $disk{$_} =~ $uri } sort keys %disk), '',
	'no signature on the disk, no presigned URI in a log of the gateway');
unlike($signer->log, $uri, 'nor in the signer\'s');
for my $what (sort keys %secret) {
	is(index($signer->log, $secret{$what}), -1, "nor in its log: $what");
}
is($gw->unbalanced, '', 'the ledger balances');
finish;
