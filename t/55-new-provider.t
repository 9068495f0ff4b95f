#!/usr/bin/perl
# A provider that nobody has heard of: one new file and one row in signer/, and
# the agent as it stands delivers to it. Nothing else knows a provider by name.
use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_hex);
use Edgehaul;
use File::Find ();
use IO::Socket::INET;
use POSIX ();
use Test::More;

my ($src, $build) = (Edgehaul::top_srcdir(), Edgehaul::top_builddir());

# ---- how this tree was built ------------------------------------------------
my $print = Edgehaul->dir('made') . '/print.mk';
spit($print, "include Makefile\nprint-%:\n\t\@echo '\$(\$*)'\n");
sub make_says {
	my ($name) = @_;
	# Of our own make, not of the one that may run the tests: that one's
	# flags have it tell which directory it enters and leaves.
	local @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL)} = ('', '', 0);
	my ($rc, $out) = Edgehaul::run(undef, 'make', '-s', '--no-print-directory',
		'-C', $build, '-f', $print, "print-$name");
	# Before it make may tell that it has made the Makefile anew.
	return $rc == 0 && $out =~ /(?:\A|\n)([^\n]*)\n\z/ ? $1 : undef;
}
my ($cc) = split ' ', make_says('CC') // '';
Edgehaul::lacking('no make or compiler here')
    if !defined $cc || !Edgehaul::have($cc =~ s{.*/}{}r)
    || !-f "$build/signer/libsigner.a";

# ---- nobody but the signer names a provider ---------------------------------
my @named;
File::Find::find({ no_chdir => 1, wanted => sub {
	return if !/\.[ch]$/;
	my $n = 0;
	for (split /\n/, slurp($_)) {
		$n++;
		push @named, "$File::Find::name:$n: $_"
		    if /\b(?:amz|aws|s3|azure|gcs|goog|x-ms)\b|amazon|BlobType/i;
	}
} }, map { "$src/$_" } qw(proxy agent lib ctl));
is(join("\n", @named), '', 'proxy/, agent/, lib/ and ctl/ name no provider');

# ---- a signer with one file and one row more --------------------------------
my $dir = Edgehaul->dir('tree');
mkdir "$dir/signer";
spit("$dir/signer/" . s{.*/}{}r, slurp($_)) for glob "$src/signer/*.[ch]";
spit("$dir/signer/provider_crate.c",
	slurp("$src/t/data/new-provider/provider_crate.c"));
my $table = slurp("$dir/signer/provider.c");
ok($table =~ s/(\t&provider_azure,\n)/$1\t&provider_crate,\n/, 'a row');
$table =~ s/(#include "provider.h"\n)/$1extern const struct provider provider_crate;\n/;
spit("$dir/signer/provider.c", $table);
my @compile = ('sh', '-c', join(' && ', map { join ' ', 'cd', "'$build'", '&&',
	make_says('CC'), "-I'$dir/signer'", map({ make_says($_) } qw(DEFS
		DEFAULT_INCLUDES SIGNER_CPPFLAGS CPPFLAGS AM_CFLAGS CFLAGS)),
	'-c', '-o', "'$dir/$_.o'", "'$dir/signer/$_.c'" }
    qw(provider provider_crate)));
my ($rc, $out, $err) = Edgehaul::run(undef, @compile);
is($rc, 0, 'it compiles') or diag("@compile\n$out$err");
# What is in our objects is not taken from the library.
($rc, $out, $err) = Edgehaul::run(undef, 'sh', '-c', join ' ', 'cd', "'$build'",
	'&&', map({ make_says($_) } qw(CC AM_CFLAGS CFLAGS AM_LDFLAGS LDFLAGS)),
	'-o', "'$dir/edgehaul-signer'", "'$dir/provider.o'",
	"'$dir/provider_crate.o'",
	'signer/edgehaul_signer-main.o', make_says('signer_edgehaul_signer_LDADD'),
	make_says('LIBS'));
is($rc, 0, 'and links') or diag("$out$err");

# ---- the store --------------------------------------------------------------
my %key = (acme => 'a secret of the crate');
my $box = Edgehaul->dir('crate');
my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64)
    or die "listen: $!\n";
my $port = $listen->sockport;
my $me = $$;
my $server = fork // die "fork: $!\n";
serve($listen) if $server == 0;
END { kill 'KILL', $server if $server && $$ == $me }

sub name_of { "$box/" . unpack('H*', $_[0]) }

# Answer one request: (status, headers, body).
sub answer {
	my ($method, $target, $h, $body) = @_;
	my ($id, $expires, $mac) = split / /, $h->{'crate-pass'} // '';
	return (403) if !$mac || !$key{$id} || $expires < time
	    || hmac_sha256_hex("$method $target $expires", $key{$id}) ne $mac;
	my ($path, $query) = split /\?/, $target, 2;
	my $at = name_of($path);
	if ($method eq 'PUT') {
		spit("$at.bay", $body);
		return (202);
	}
	if ($method eq 'POST' && ($query // '') eq 'seal') {
		# Once it is full, as it were: it is to be tried again.
		if (!-e "$box/was-full") {
			spit("$box/was-full", '');
			return (418, '', '{"code": "BayIsFull"}');
		}
		my $want = json_decode($body);
		return (400) if !-f "$at.bay" || -s "$at.bay" != $want->{octets}
		    || sha256_hex(slurp("$at.bay")) ne $want->{sha256};
		rename "$at.bay", $at;
		return (201, "Crate-Digest: $want->{sha256}\r\n");
	}
	return (404) if !-f $at;
	return (200, 'Crate-Digest: ' . sha256_hex(slurp($at)) . "\r\n");
}

sub serve {
	$SIG{CHLD} = 'IGNORE';
	while (my $c = $_[0]->accept) {
		next if fork;
		my $in = '';
		while (1) {
			sysread($c, $in, 65536, length $in) or POSIX::_exit(0)
			    while $in !~ /\r\n\r\n/;
			$in =~ s/\A(.*?)\r\n\r\n//s;
			my ($line, @h) = split /\r\n/, $1;
			my %h = map { /^([^:]+):\s*(.*)/ ? (lc $1, $2) : () } @h;
			my $n = $h{'content-length'} // 0;
			sysread($c, $in, 65536, length $in) or POSIX::_exit(0)
			    while length $in < $n;
			my ($status, $more, $text) = answer(
				(split / /, $line)[0, 1], \%h, substr($in, 0, $n, ''));
			$text //= '';
			syswrite $c, "HTTP/1.1 $status X\r\nContent-Length: "
			    . length($text) . "\r\n" . ($more // '') . "\r\n$text";
		}
	}
	POSIX::_exit(0);
}

# ---- the agent as it is -----------------------------------------------------
my $signer = Edgehaul->signer;
$signer->{program} = "$dir/edgehaul-signer";
$signer->admin;
my $gw = Edgehaul->gateway(signer => $signer->url,
	token => $signer->token('gateway', '--gateway', 'gw-1'));
$signer->start;
my %doc = (type => 'crate', endpoint => "http://127.0.0.1:$port",
	accessKeyId => 'acme', allowHttp => JSON::PP::true());
my $r = $signer->rest('PUT', '/v1/storages/default', json => \%doc);
is($r->{status}, 422, 'what it requires is asked for');
$signer->storage('default', %doc, secretAccessKey => $key{acme});
$gw->proxy->start;
$gw->agent->start;
my %put = map { $_ => jpeg() . $_ x $_ } 1, 10, 1000;
my %id = map { $_ => $gw->put("/upload/cam-1/$_ \x{c3}\x{a4}.jpg", $put{$_})->{json}{id} }
    sort keys %put;
ok($gw->drained(30, 3), 'delivered') or diag(explain([$gw->queue_ls]));
my %kept = map { (pack('H*', s{.*/}{}r) => slurp($_)) }
    grep { !/\.bay$|was-full/ } glob "$box/*";
for my $n (sort keys %put) {
	my ($at) = grep { /\Q$id{$n}\E/ } keys %kept;
	like($at // '', qr{^/crate/gw-1/cam-1/}, "$n: below the gateway's prefix");
	is(sha256_hex($kept{ $at // '' } // ''), sha256_hex($put{$n}),
		"$n: octet by octet");
}
ok(-e "$box/was-full", 'its own error was understood: tried again');
unlike($gw->agent->log . $signer->log, qr/a secret of the crate/, 'no secret in a log');
is($gw->unbalanced, '', 'the ledger balances');
finish;
