#!/usr/bin/perl
# SIGHUP: what a running proxy takes over, and what it says it cannot.
use strict;
use warnings;
use Test::More;
use Edgehaul;

my $box = Edgehaul->gateway(token => 't', signer => 'http://127.0.0.1:1',
	conf => { limits => { max_upload => '10 KB' },
		'camera dock' => { address => '127.0.0.0/8',
			max_upload => '50 KB' } });
$box->proxy->start;

# PUT n octets to a path: the status.
sub put {
	my ($path, $n) = @_;
	return ($box->put($path, 'x' x $n) // {})->{status};
}

sub reload {
	my ($say) = @_;
	$box->proxy->hup;
	return ok(wait_for(sub { $box->proxy->new_log =~ $say }, 10), "$say");
}

is(put('/upload/dock/a', 30_000), 201, "the camera's own max_upload counts");
is(put('/upload/dock/b', 60_000), 413, 'up to it');
is(put('/upload/other/a', 1), 403, 'its address is that camera alone');

delete $box->{conf}{'camera dock'};
$box->configure;
reload(qr/reload/);
ok(wait_for(sub { put('/upload/dock/c', 30_000) == 413 }),
	'without the section the general limit counts');
is(put('/upload/other/a', 1), 201, 'and the path names the device');

$box->configure(limits => { max_upload => '40 KB' });
reload(qr/reload/);
ok(wait_for(sub { put('/upload/dock/d', 30_000) == 201 }),
	'a limit may be raised');

$box->configure(listen => { known_only => 'yes' });
reload(qr/reload/);
ok(wait_for(sub { put('/upload/dock/e', 1) == 403 }),
	'known_only is taken over');

$box->configure(listen => { known_only => 'no' },
	limits => { max_per_address => 2 });
reload(qr/reload/);
{
	my @c = map { Edgehaul::Raw->new($box->lan) } 1 .. 2;
	ok(wait_for(sub { $box->get('/-/health')->{status} == 599 }),
		'max_per_address is taken over');
	$_->close for @c;
	ok(wait_for(sub { put('/upload/dock/f', 1) == 201 }),
		'and when they have gone another may come');
}

$box->configure(spool => { max_size => '512 MB' });
reload(qr/warn .*\[spool\] max_size .*next start/);

ok($box->proxy->stop, 'the proxy stops');
finish;
