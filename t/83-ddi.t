#!/usr/bin/perl
# SWUpdate, as Debian has it, fetches a signed image from the gateway: by plain
# URL with a download that is cut and resumed, and as a client of hawkBit's
# device API to the end. Then the API itself, as rauc-hawkbit-updater uses it.
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Firmware;
use IO::Select;
use IO::Socket::INET;
use Test::More;

my $box = Edgehaul->gateway(signer => 'http://127.0.0.1:9', token => 't');
my $fw = Edgehaul::Firmware->new($box);
my $dir = Edgehaul->dir('swu');
my $target = "$dir/installed";

sub sh {
	my ($rc, $out, $err) = Edgehaul->run('sh', '-ec', "cd $dir; $_[0]");
	diag("$_[0]: $err") if $rc != 0;
	return $rc;
}

# A .swu that puts rootfs.bin to $target, signed. Its name.
sub image {
	my ($version, $rootfs) = @_;
	spit("$dir/rootfs.bin", $rootfs);
	my $sum = sha256_hex($rootfs);
	spit("$dir/sw-description", <<"END");
software = {
	version = "$version";
	hardware-compatibility: [ "1.0" ];
	files: ({ filename = "rootfs.bin"; path = "$target";
		sha256 = "$sum"; });
}
END
	sh('openssl cms -sign -in sw-description -out sw-description.sig '
		. '-signer c.pem -inkey k.pem -outform DER -nosmimecap -binary');
	sh('printf "sw-description\nsw-description.sig\nrootfs.bin\n" '
		. "| cpio --quiet -o -H crc -L > fw-$version.swu");
	return $fw->file("fw-$version.swu", slurp("$dir/fw-$version.swu"));
}

# Between client and gateway: the first answer to a GET is cut after n octets.
# Returns (pid, port).
sub cutter {
	my ($n) = @_;
	my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5,
		ReuseAddr => 1) or die;
	my $pid = fork // die;
	return ($pid, $l->sockport) if $pid;
	my $left = 2; # downloads to cut
	while (my $c = $l->accept) {
		my $s = IO::Socket::INET->new(PeerAddr => $box->lan) or exit 1;
		my ($sent, $is_get) = (0, 0);
		my $sel = IO::Select->new($c, $s);
		LOOP: while (my @r = $sel->can_read(30)) {
			for my $from (@r) {
				sysread $from, my $buf, 65536 or last LOOP;
				if ($from == $c) {
					$is_get = 1 if $buf =~ /^GET/;
					syswrite STDERR, $buf =~ /^(Range: .*?)\r/m
					    ? "$1\n" : '';
					syswrite $s, $buf;
					next;
				}
				$sent += length $buf;
				if ($is_get && $left > 0 && $sent > $n) {
					$left--;
					last LOOP;
				}
				syswrite $c, $buf;
			}
		}
		close $c;
		close $s;
	}
	exit 0;
}

my $rootfs = Edgehaul::Firmware::octets(5_000_000, 'rootfs');
my ($old, $new);
SKIP: {
	need(1, 'openssl', 'cpio');
	sh('openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem '
		. '-days 30 -subj /CN=fw -addext extendedKeyUsage=emailProtection '
		. '-addext keyUsage=digitalSignature 2>/dev/null');
	$old = image('1.1.0', $rootfs . 'old');
	$new = image('1.2.0', $rootfs . 'new');
	$fw->release('1.1.0', files => [$old], hw => ['1.0']);
	$fw->publish;
	$fw->fill($_) for $old, $new;
	$box->proxy->start;
	ok(wait_for(sub { $box->get('/firmware/check?p=none')->{status} != 503 }),
		'the gateway has a signed image');
}

# ---- plain URL, cut twice --------------------------------------------------
SKIP: {
	need(2, 'swupdate');
	my ($pid, $port) = cutter(1_500_000);
	my $rc = sh("swupdate -v -k c.pem -H cam:1.0 -d '-u "
		. "http://127.0.0.1:$port/firmware/b/$old->{sha256}/fw.swu -r 8' "
		. '>plain.log 2>&1');
	kill 'TERM', $pid;
	waitpid $pid, 0;
	is($rc, 0, 'swupdate by plain URL, cut twice') or diag(slurp("$dir/plain.log"));
	ok(-f $target && slurp($target) eq "${rootfs}old", 'installed');
	unlink $target;
}

# ---- as a client of hawkBit ------------------------------------------------
sub devices {
	return map { my $d = json_decode($_); ($d->{id} => $d) }
	    split /\n/, ($box->ctl('firmware', 'devices', '--json'))[1];
}
SKIP: {
	need(7, 'swupdate');
	spit("$dir/swupdate.cfg", <<'END');
globals : { verbose = true; loglevel = 5; };
identify : (
	{ name = "hw"; value = "1.0"; },
	{ name = "version"; value = "1.0.0"; }
);
END
	# A device after its reboot confirms by -c what it has tried.
	my $swupdate = sub {
		my (@confirm) = @_;
		my $pid = fork // die;
		return $pid if $pid;
		chdir $dir;
		open STDOUT, '>>', "$dir/ddi.log";
		open STDERR, '>&', \*STDOUT;
		$ENV{TMPDIR} = $dir;
		exec 'setpriv', '--pdeathsig', 'TERM', 'swupdate', '-v', '-f',
		    'swupdate.cfg', '-k', 'c.pem', '-H', 'cam:1.0', '-u',
		    join ' ', '-t cam-x -u', $box->url('/firmware/ddi'),
			'-i cam-25 -p 1 -k sometoken', @confirm;
	};
	my $pid = $swupdate->();
	my $log = sub { -f "$dir/ddi.log" ? slurp("$dir/ddi.log") : '' };
	ok(wait_for(sub { my %d = devices(); $d{'cam-25'} }, 30),
		'swupdate polls');
	ok(wait_for(sub { my %d = devices(); ($d{'cam-25'}{hw} // '') eq '1.0' },
		40), 'tells its hardware') or diag($log->());
	ok(wait_for(sub { -f $target && slurp($target) eq "${rootfs}old" }, 60),
		'fetches and installs') or diag($log->());
	ok(wait_for(sub { $log->() =~ /Update successful/ }), 'to its end');
	kill 'TERM', $pid;
	waitpid $pid, 0;
	my $config = slurp("$dir/swupdate.cfg"); # as the new image has it
	spit("$dir/swupdate.cfg", $config =~ s/1\.0\.0/1.1.0/r);
	$pid = $swupdate->('-c 2');
	ok(wait_for(sub { my %d = devices();
		($d{'cam-25'}{version} // '') eq '1.1.0' }, 60),
		'and reports it') or diag($log->());
	my %d = devices();
	is($d{'cam-25'}{source}, 'ddi', 'by that way');
	like($box->proxy->log, qr/device=cam-25 .*version=1\.1\.0: installed/,
		'logged');
	kill 'TERM', $pid;
	waitpid $pid, 0;
}

# ---- the API itself --------------------------------------------------------
my $base = $box->url('/firmware/ddi/cam-x/controller/v1/unit%201');
sub ddi {
	my ($method, $url, $json) = @_;
	return Edgehaul::http($method, $url, defined $json ? (json => $json) : (),
		headers => { Authorization => 'TargetToken abc',
			Accept => 'application/hal+json' });
}
sub feedback {
	my ($url, $execution, $finished) = @_;
	return ddi('POST', "$url/feedback", { id => '1', status => {
		execution => $execution, result => { finished => $finished,
			progress => {} }, details => ['x'] } })->{status};
}
{
	my $r = ddi('GET', $base);
	is($r->{status}, 200, 'a poll');
	like($r->{json}{config}{polling}{sleep}, qr/^\d\d:\d\d:\d\d$/, 'sleep');
	ok(!$r->{json}{_links}{deploymentBase}, 'nothing for unknown hardware');
	my $config = $r->{json}{_links}{configData}{href};
	is($config, "$base/configData", 'asks what it is');
	is(ddi('PUT', $config, { mode => 'merge', data => {
		hw_revision => '1.0', swVersion => '1.0.0' } })->{status}, 200,
		'configData');
	is(ddi('PUT', $config, 'x')->{status}, 400, 'no object');
	$r = ddi('GET', $base);
	ok(!$r->{json}{_links}{configData}, 'is not asked again');
	my $url = $r->{json}{_links}{deploymentBase}{href};
	like($url // '', qr{^\Q$base\E/deploymentBase/\d+}, 'an update');
	$r = ddi('GET', $url);
	my $d = $r->{json}{deployment};
	is($d->{update}, 'forced', 'to be installed');
	my $a = $d->{chunks}[0]{artifacts}[0];
	is($d->{chunks}[0]{version}, '1.1.0', 'its version');
	is_deeply($a->{hashes}, { map { $_ => $old->{$_} }
		qw(sha1 md5 sha256) }, 'its hashes');
	is($a->{size}, $old->{size}, 'its size');
	is(sha256_hex(Edgehaul::http('GET',
		$a->{_links}{'download-http'}{href})->{content}), $old->{sha256},
		'its bytes');
	is(feedback($url, 'proceeding', 'none'), 200, 'proceeding');
	ok(ddi('GET', $base)->{json}{_links}{deploymentBase}, 'still offered');
	is(feedback($url, 'closed', 'failure'), 200, 'failed');
	ok(!ddi('GET', $base)->{json}{_links}{deploymentBase},
		'what failed is not offered again');
	my %d = devices();
	is($d{'unit 1'}{failed}, '1.1.0', 'but noted');
	# a newer one, which is revoked while it is being installed
	$fw->release('1.2.0', files => [$new], hw => ['1.0']);
	$fw->publish;
	my $link = sub { ddi('GET', $base)->{json}{_links}{$_[0]}{href} };
	ok(wait_for(sub { $url = $link->('deploymentBase') }), 'a newer one');
	$fw->{revoked} = [$new->{sha256}];
	$fw->publish;
	my $cancel;
	ok(wait_for(sub { $cancel = $link->('cancelAction') }),
		'revoked: cancelled');
	is(ddi('GET', $cancel)->{json}{cancelAction}{stopId},
		($url =~ m{/(\d+)$})[0], 'that action');
	is(ddi('GET', $url)->{status}, 404, 'which is no more');
	is(feedback($cancel, 'closed', 'success'), 200, 'the device stops');
	ok(!$link->('cancelAction'), 'and is not told again');
	$r = ddi('GET', "$base/deploymentBase/999");
	is($r->{status}, 404, 'an action that never was');
	is(ddi('GET', $box->url('/firmware/ddi/NO%20PRODUCT/controller/v1/x'))
		->{status}, 404, 'a tenant that is no product');
	is(ddi('GET', $box->url('/firmware/ddi/default/controller/v1/x'))
		->{status}, 200, 'one that is not known: nothing for it');
	# one that is heard of for the first time is asked first what it runs
	$fw->{revoked} = [];
	my $any = $fw->release('1.3.0', files => [$old]);
	$fw->publish;
	my ($m1, $m2) = map { $box->url("/firmware/ddi/cam-x/controller/v1/mute$_") }
		1, 2;
	ok(wait_for(sub { ddi('GET', $base)->{json}{_links}{deploymentBase} }),
		'a release for any hardware');
	$r = ddi('GET', $m1)->{json}{_links};
	ok($r->{configData} && !$r->{deploymentBase}, 'asked, before any offer');
	ddi('PUT', $r->{configData}{href}, { data => { version => '9.0.0' } });
	ddi('GET', $m2);
	ok(wait_for(sub { ddi('GET', $m2)->{json}{_links}{deploymentBase} }),
		'one that tells nothing has its offer all the same');
	ok(!ddi('GET', $m1)->{json}{_links}{deploymentBase},
		'and one that runs a higher version has none');
	# the product may come from configData instead
	my $other = $box->url('/firmware/ddi/default/controller/v1/y');
	ddi('PUT', "$other/configData", { data => { product => 'cam-x',
		hw => '1.0', version => '1.0.0' } });
	ok(ddi('GET', $other)->{json}{_links}{deploymentBase},
		'the product from its attributes');
}
ok($box->proxy->stop, 'the proxy stops');
finish;
