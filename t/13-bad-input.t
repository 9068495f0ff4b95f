#!/usr/bin/perl
# Mistakes of installers, admins and cameras: one clear answer each
use strict;
use warnings;
use Edgehaul;
use Test::More;

my $build = Edgehaul::top_builddir();
my $jpeg = jpeg();

# ---- configuration: --check says what and where, exit 78 -------------------
my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't');
my $good = slurp($box->{config});
my @mistakes = (
	# what is added, what the message must say
	['unknown setting', "[spool]\nmax_sise = 1 GB\n",
		qr/gateway\.conf:\d+.*max_sise.*did you mean.*max_size/si],
	['unknown section', "[spol]\nmax_size = 1 GB\n",
		qr/gateway\.conf:\d+.*spol.*did you mean.*spool/si],
	['missing unit', "[spool]\nmax_age = 30\n",
		qr/gateway\.conf:\d+.*max_age.*unit/si],
	['setting of another section', "[upload]\nmax_upload = 1 GB\n",
		qr/gateway\.conf:\d+.*max_upload.*limits/si],
	['out of range', "[spool]\nfree_floor = 150 %\n",
		qr/gateway\.conf:\d+.*free_floor/si],
);
for (@mistakes) {
	my ($what, $lines, $want) = @$_;
	spit($box->{config}, $good . $lines);
	for my $who (qw(proxy agent)) {
		my ($rc, $out, $err) = Edgehaul->run(
			"$build/$who/edgehaul-$who", '--config',
			$box->{config}, '--check');
		is($rc, 78, "$what: $who --check exits 78");
		like("$out$err", $want, "$what: $who says so");
	}
}
spit($box->{config}, $good . join '', map { $_->[1] } @mistakes[0, 2]);
my ($rc, $out, $err) = $box->ctl('check');
isnt($rc, 0, 'edgehaul check fails');
like("$out$err", qr/max_sise/, 'and tells the first mistake');
like("$out$err", qr/max_age/, 'and the second in the same run');
spit($box->{config}, $good);
for my $who (qw(proxy agent)) {
	($rc, $out, $err) = Edgehaul->run("$build/$who/edgehaul-$who",
		'--config', $box->{config}, '--check');
	is($rc, 0, "$who --check of a good file") or diag("$out$err");
}
($rc, $out, $err) = Edgehaul->run("$build/proxy/edgehaul-proxy",
	'--config', '/nonexistent/gateway.conf');
is($rc, 78, 'a configuration that is not there');
like($err, qr{/nonexistent/gateway\.conf}, 'is named');

# a token file that cannot be read: found before the start, named by the agent,
# and the gateway keeps taking uploads
unlink $box->{token_file};
($rc, $out, $err) = $box->ctl('check');
isnt($rc, 0, 'unreadable token file: edgehaul check fails');
like("$out$err", qr/\Q$box->{token_file}\E/, 'and names the file');
$box->proxy->start;
$box->agent->start;
is($box->put('/upload/cam-1/a.jpg', $jpeg)->{status}, 201,
	'uploads are taken all the same');
ok(wait_for(sub {
	$box->agent->log =~ /(?:error|warn).*\Q$box->{token_file}\E/;
}), 'the agent names the file as well');
is($box->ledger->{waiting}, 1, 'and keeps what waits');
ok($box->agent->stop && $box->proxy->stop, 'both stop cleanly');

# a running daemon keeps what it has when the new file is wrong
my $site = Edgehaul->site(conf => { limits => { max_upload => '100 KB' } });
spit($site->{config}, slurp($site->{config}) . "[spool]\nmax_sise = 1 GB\n");
$site->proxy->hup;
ok(wait_for(sub { $site->proxy->new_log =~ /error.*max_sise/ }, 10),
	'SIGHUP with a wrong file: an error');
is($site->put('/upload/cam-1/a.jpg', $jpeg)->{status}, 201,
	'and the proxy goes on with the old one');
$site->configure;

# ---- larger than max_upload: 413 before the body ---------------------------
{
	my $c = Edgehaul::Raw->new($site->lan);
	$c->send(join "\r\n", 'PUT /upload/cam-1/big.jpg HTTP/1.1', 'Host: gw',
		'Content-Length: 102401', 'Expect: 100-continue', '', '');
	my $r = $c->response(interim => 1);
	is($r->{status}, 413, '413 instead of 100-continue');
	ok($r->{json}{error} && $r->{json}{hint}, 'with error and hint');
	$c = Edgehaul::Raw->new($site->lan);
	$c->send(join "\r\n", 'PUT /upload/cam-1/big.jpg HTTP/1.1', 'Host: gw',
		'Content-Length: 5000000', '', '');
	is(($c->response // {})->{status}, 413, '413 before the body came');
	$r = $site->put('/upload/cam-1/big.jpg', 'x' x 200_000);
	is($r->{status}, 413, 'a client that just sends sees it, too');
	my $chunk = sprintf("%x\r\n", 60_000) . 'x' x 60_000 . "\r\n";
	$r = Edgehaul::request_bytes($site->lan, join "\r\n",
		'PUT /upload/cam-1/big.jpg HTTP/1.1', 'Host: gw',
		'Transfer-Encoding: chunked', '', "$chunk${chunk}0\r\n\r\n");
	is($r->{answers}[0]{status}, 413, 'chunked: 413 once it is too much');
	is($site->put('/upload/cam-1/fits.jpg', 'x' x 102_400)->{status}, 201,
		'exactly max_upload is taken');
}

# ---- paths -----------------------------------------------------------------
for my $path ('/upload/../../etc/passwd', '/upload/cam-1/../../x',
	'/upload/cam-1/%2e%2e/x', '/upload/%2e%2e%2fx', '/..') {
	my $r = $site->put($path, 'x');
	like($r->{status}, qr/^4/, "$path is refused");
}
for (['/-/status.json', 405], ['/-/health', 405],
	['/firmware/b/0', 405]) {
	my ($path, $want) = @$_;
	is($site->put($path, 'x')->{status}, $want, "PUT $path");
}
is($site->put('/upload/cam-1/n.jpg', 'x', method => 'DELETE')->{status}, 405,
	'DELETE of an upload path');
{
	my $r = Edgehaul::request_bytes($site->lan,
		"PUT /upload/cam-1/n.jpg HTTP/1.1\r\nHost: gw\r\n\r\n");
	is($r->{answers}[0]{status}, 411, 'no length: 411');
}
ok($site->drained, 'what was taken arrived');
is($site->ledger->{accepted}, 2, 'and nothing that was refused');
is(scalar(grep { /etc|passwd/ } keys %{ $site->files }), 0, 'or stored');

# ---- full spool: 507, and room again ---------------------------------------
{
	$site->signer->stop;
	my $body = 'y' x 100_000;
	my ($took, $r) = (0);
	for (1 .. 3000) { # 256 MB hold 2684 of them
		$r = $site->put("/upload/cam-1/$_.jpg", $body);
		last if $r->{status} != 201;
		$took++;
	}
	is($r->{status}, 507, "full after $took uploads: 507");
	ok($took > 2000 && $took < 2700, 'max_size is what was full');
	ok($r->{json}{error} && $r->{json}{hint}, 'with error and hint');
	# files delivered before may still be on their way out
	my $times = 0;
	wait_for(sub {
		$site->put('/upload/cam-1/more.jpg', $body)->{status} == 507
		    and ++$times == 5;
	});
	my $c = Edgehaul::Raw->new($site->lan);
	$c->send(join "\r\n", 'PUT /upload/cam-1/big.jpg HTTP/1.1', 'Host: gw',
		'Content-Length: 100000', 'Expect: 100-continue', '', '');
	is($c->response(interim => 1)->{status}, 507,
		'before 100-continue');
	is($site->unbalanced, '', 'the ledger balances');
	$site->signer->start;
	ok(wait_for(sub {
		my $p = $site->put('/upload/cam-1/again.jpg', 'z');
		$p && $p->{status} == 201;
	}, 30), '201 again once the agent has made room');
	ok($site->drained(90), 'and everything arrives');
}
ok($site->proxy->stop && $site->agent->stop && $site->signer->stop,
	'all stop cleanly');
finish;
