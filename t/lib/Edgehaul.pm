# Edgehaul.pm - the harness of the end-to-end tests
#
# A test starts real daemons and real servers, each in a folder of its own and
# on free loopback ports, talks to them as a camera or an operator would, and
# waits for conditions, never for time. Whatever a test started is gone when
# it ends, also when it dies; two runs side by side do not meet.
#
#	use Edgehaul;
#	my $site = Edgehaul->site;          # signer, proxy, agent, FILE storage
#	my $r = $site->put('/upload/cam-1/a.jpg', $body, type => 'image/jpeg');
#	is $r->{status}, 201;
#	ok $site->drained, 'nothing waits any more';
#	is $site->object($r->{json}{id})->{body}, $body;
#	finish;
#
# Environment:
#	TOP_SRCDIR, TOP_BUILDDIR   where sources and programs are
#	KEEP=1                     keeps the folder and prints its name
#	EDGEHAUL_REQUIRED=1        a missing counterpart is a failure, not a SKIP
#	EDGEHAUL_WRAP='valgrind'   is put before each daemon's command
#	EDGEHAUL_PROXY_WRAP=...    the same for one program (also AGENT, SIGNER)
#	EDGEHAUL_MEMORY=67108864   holds each gateway to so many octets
#	EDGEHAUL_SLOW=3            multiplies every time-out
# A SKIP whose reason begins with "kernel:" is for a right that the kernel or
# the user lacks; it is never a failure.
package Edgehaul;
use strict;
use warnings;
use Cwd ();
use Exporter 'import';
use File::Path ();
use File::Spec;
use File::Temp ();
use IO::Socket::INET;
use JSON::PP ();
use Scalar::Util ();
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(wait_for finish need need_root slurp spit json_decode
    json_encode sha256_hex http request_bytes jpeg child);

my $top = $ENV{TOP_SRCDIR} // do {
	my $file = Cwd::abs_path(__FILE__);
	$file =~ s{/t/lib/Edgehaul\.pm$}{};
	$file;
};
my $build = $ENV{TOP_BUILDDIR} // $top;
my $main_pid = $$;
my $work; # the folder of this test
my @live; # weak references to all that may have to be stopped
my $failed_reports = 0;

sub top_srcdir { $top }
sub top_builddir { $build }

# ---- small things ---------------------------------------------------------

sub slurp {
	my ($path) = @_;
	open my $fh, '<:raw', $path or die "$path: $!\n";
	local $/;
	my $s = <$fh>;
	return $s // '';
}

sub spit {
	my ($path, $content) = @_;
	open my $fh, '>:raw', $path or die "$path: $!\n";
	print $fh $content;
	close $fh or die "$path: $!\n";
	return $path;
}

sub json_decode { JSON::PP->new->utf8->decode($_[0]) }
sub json_encode { JSON::PP->new->utf8->canonical->encode($_[0]) }
sub sha256_hex { require Digest::SHA; Digest::SHA::sha256_hex($_[0]) }

# Text of an XML element as it was before escaping.
sub xml_text {
	my ($s) = @_;
	my %char = (lt => '<', gt => '>', quot => '"', apos => "'", amp => '&');
	$s =~ s{&(?:#x([0-9a-f]+)|#(\d+)|(\w+));}
		{defined $1 ? chr hex $1 : defined $2 ? chr $2 : $char{$3}}gei;
	return $s;
}

# The bytes of the real JPEG of t/data.
sub jpeg { slurp("$top/t/data/camera.jpg") }

# How much longer than usual everything may take.
sub slowness {
	my $f = $ENV{EDGEHAUL_SLOW} || 1;
	$f *= 10 if grep { /^EDGEHAUL_(\w+_)?WRAP$/ && length $ENV{$_} } keys %ENV;
	$f *= 3 if sanitized();
	return $f;
}

# Call cond until it is true; its value, or false after secs seconds.
sub wait_for {
	shift if @_ && !ref $_[0];
	my ($cond, $secs) = @_;
	my $end = Time::HiRes::time() + ($secs // 20) * slowness();
	my $pause = 0.01;
	while (1) {
		my $v = $cond->();
		return $v if $v;
		return $v if Time::HiRes::time() > $end;
		Time::HiRes::sleep($pause);
		$pause *= 1.3 if $pause < 0.2;
	}
}

# A port that is free now, outside of the range the kernel picks from.
sub free_port {
	for (1 .. 200) {
		my $port = 15000 + int rand 17000;
		my $s = IO::Socket::INET->new(
			LocalAddr => '127.0.0.1', LocalPort => $port,
			Listen => 1, Proto => 'tcp') or next;
		close $s;
		return $port;
	}
	die "no free port\n";
}

sub have {
	my ($program) = @_;
	return (grep { -x "$_/$program" } split(/:/, $ENV{PATH} // ''),
	    '/usr/sbin', '/sbin')[0];
}

# Is the program built with AddressSanitizer?
sub sanitized {
	my ($program) = @_;
	our %known;
	$program //= "$build/proxy/edgehaul-proxy";
	return 0 if !-f $program;
	return $known{$program} //=
	    (index(slurp($program), '__asan_init') >= 0) ? 1 : 0;
}

# ---- the folder of a test -------------------------------------------------

# Enough memory-backed room? Disks in CI are slow and shared.
sub _roomy {
	my ($dir, $kb) = @_;
	return 0 if !-d $dir || !-w $dir;
	my @df = split ' ', (`df -Pk $dir 2>/dev/null` =~ /\n(.*)/)[0] // '';
	return @df > 3 && $df[3] =~ /^\d+$/ && $df[3] > $kb;
}

# A new folder; the first call makes the test's own. `disk => 1` asks for one
# that is not in memory.
sub dir {
	my (undef, $name, %o) = @_;
	if ($o{disk}) {
		return File::Temp::tempdir('edgehaul-XXXXXX', TMPDIR => 1,
			CLEANUP => !$ENV{KEEP});
	}
	if (!defined $work) {
		my $base = $ENV{EDGEHAUL_TMPDIR}
		    // (_roomy('/dev/shm', 2_000_000) ? '/dev/shm'
			: File::Spec->tmpdir);
		$work = File::Temp::tempdir('edgehaul-XXXXXX', DIR => $base);
		chmod 0755, $work;
	}
	return $work if !defined $name;
	our %count;
	my $d = "$work/$name" . ($count{$name}++ ? "-$count{$name}" : '');
	mkdir $d or die "$d: $!\n";
	return $d;
}

# ---- counterparts ---------------------------------------------------------

# What a name in need() stands for, if not for a program of that name.
my %programs = (
	radosgw => [qw(radosgw radosgw-admin ceph-mon ceph-osd ceph monmaptool)],
	swift => [qw(swift-proxy-server swift-account-server
	    swift-container-server swift-object-server memcached)],
);
my %package = (
	radosgw => 'radosgw ceph-mon ceph-osd ceph-common',
	swift => 'swift-proxy swift-account swift-container swift-object '
	    . 'memcached',
	azurite => 'nodejs npm, then: npm ci in t/',
	postgresql => 'postgresql',
	promtool => 'prometheus',
	pg_dump => 'postgresql-client',
	prism => 'nodejs npm, then: npm ci in t/',
	redocly => 'nodejs npm, then: npm ci in t/',
	mdb_copy => 'lmdb-utils',
	prlimit => 'util-linux',
	setpriv => 'util-linux',
	strip => 'binutils',
);

sub node_modules { $ENV{EDGEHAUL_NODE_MODULES} // "$top/t/node_modules" }
sub azurite_main { node_modules() . '/azurite/dist/src/blob/main.js' }
sub prism_main { node_modules() . '/@stoplight/prism-cli/dist/index.js' }

# Those that are no program in the PATH: is it there?
my %there = (
	azurite => sub { have('node') && -f azurite_main() },
	prism => sub { have('node') && -f prism_main() },
	redocly => sub { have('node')
		&& -d node_modules() . '/@redocly/openapi-core' },
	'python3-h11' => sub { # Debian's own python, which has it
		-x '/usr/bin/python3'
		    && system('/usr/bin/python3 -c "import h11" 2>&-') == 0;
	},
	postgresql => sub {
		have('psql') && system('bash',
			"$top/t/lib/backends/postgresql", 'there') == 0;
	},
);

# Why one of them cannot be used, or undef.
sub lacks {
	for my $name (@_) {
		my $there = $there{$name} ? $there{$name}->()
		    : !grep { !have($_) } @{ $programs{$name} // [$name] };
		next if $there;
		return "$name not installed (Debian: "
		    . ($package{$name} // $name) . ')';
	}
	return undef;
}

# In a test that has begun: skip $n checks unless all programs are there.
# Call in a block labelled SKIP.
sub need {
	my ($n, @programs) = @_;
	my $why = lacks(@programs) or return;
	if ($ENV{EDGEHAUL_REQUIRED}) {
		fail($why);
		no warnings 'exiting';
		last SKIP;
	}
	skip($why, $n);
}

# The whole file needs these programs; call it before the first check.
sub need_all {
	my (undef, @programs) = @_;
	my $why = lacks(@programs) or return;
	lacking($why);
}

# The whole file cannot run, for want of what a machine can be equipped with.
sub lacking {
	my ($why) = @_;
	plan(skip_all => $why) if !$ENV{EDGEHAUL_REQUIRED};
	plan(tests => 1);
	fail($why);
	exit 1;
}

sub need_root {
	my ($n) = @_;
	skip('kernel: only root can run daemons under two users', $n)
	    if $> != 0;
}

# ---- what is running ------------------------------------------------------

sub register {
	my ($object) = @_;
	push @live, $object;
	Scalar::Util::weaken($live[-1]);
}

# Stop all, newest first, and look for reports of the sanitizers.
sub stop_all {
	for my $o (reverse grep { defined } @live) {
		eval { $o->stop_quietly; 1 } or diag($@);
	}
	@live = ();
	return if !defined $work;
	for my $report (glob "$work/san.*") {
		$failed_reports++;
		diag("sanitizer report:\n" . slurp($report));
	}
}

# Instead of done_testing: stops everything, and a sanitizer's report or a
# daemon that had to be killed fails the test.
sub finish {
	stop_all();
	is($failed_reports, 0, 'no sanitizer report') if sanitized();
	done_testing();
}

sub diag_logs {
	for my $o (grep { defined } @live) {
		next if !$o->can('log');
		my @lines = split /\n/, $o->log;
		splice @lines, 0, @lines - 60 if @lines > 60;
		diag('---- ' . $o->name . "\n" . join("\n", @lines));
	}
}

$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);
$SIG{PIPE} = 'IGNORE';
$SIG{ALRM} = sub {
	return if $$ != $main_pid;
	diag('the test takes too long');
	exit 1;
};
alarm(($ENV{EDGEHAUL_TEST_SECS} // 240) * slowness());

END {
	if ($$ == $main_pid) {
		my $status = $?;
		my $bad = $status != 0 || !Test::More->builder->is_passing;
		diag_logs() if $bad;
		stop_all();
		if (defined $work) {
			if ($ENV{KEEP}) {
				diag("kept: $work");
			} else {
				File::Path::remove_tree($work, { safe => 0 });
			}
		}
		$? = $status || ($failed_reports ? 1 : 0);
	}
}

# ---- constructors ---------------------------------------------------------

sub site { shift; require Edgehaul::Site; Edgehaul::Site->new(@_) }
sub origin { shift; require Edgehaul::Origin; Edgehaul::Origin->new(@_) }
sub signer { shift; require Edgehaul::Signer; Edgehaul::Signer->new(@_) }
sub gateway { shift; require Edgehaul::Gateway; Edgehaul::Gateway->new(@_) }
sub cloud { shift; require Edgehaul::Cloud; Edgehaul::Cloud->new(@_) }
sub radosgw { shift; require Edgehaul::Radosgw; Edgehaul::Radosgw->new(@_) }
sub follow { shift; require Edgehaul::Follow; Edgehaul::Follow->new(@_) }
sub detour { shift; require Edgehaul::Detour; Edgehaul::Detour->new(@_) }
sub tokens { shift; require Edgehaul::Tokens; Edgehaul::Tokens->new(@_) }
sub swift { shift; require Edgehaul::Swift; Edgehaul::Swift->new(@_) }
sub postgresql { shift; require Edgehaul::Postgresql; Edgehaul::Postgresql->new(@_) }
sub haproxy { shift; require Edgehaul::Haproxy; Edgehaul::Haproxy->new(@_) }
sub prism { shift; require Edgehaul::Prism; Edgehaul::Prism->new(@_) }
sub memory { shift; require Edgehaul::Memory; Edgehaul::Memory->new(@_) }
sub azurite { shift; require Edgehaul::Azurite; Edgehaul::Azurite->new(@_) }

# Run a program to its end: (exit status, stdout, stderr).
sub run { require Edgehaul::Daemon; Edgehaul::Daemon::run(@_) }

# A certificate of its own for localhost, *.localhost and 127.0.0.1, as two
# files: certificate, key. More options of "openssl req".
sub certificate {
	my (undef, @more) = @_;
	my $dir = Edgehaul->dir('certificate');
	my ($rc, undef, $err) = run(undef, 'openssl', 'req', '-x509', '-newkey',
		'rsa:2048', '-nodes', '-keyout', "$dir/key.pem", '-out',
		"$dir/cert.pem", '-days', '2', '-subj', '/CN=localhost',
		'-addext', 'subjectAltName=DNS:localhost,DNS:*.localhost,'
		. 'IP:127.0.0.1', @more);
	die "openssl: $err\n" if $rc != 0;
	return ("$dir/cert.pem", "$dir/key.pem");
}

# Run code beside; a handle from which comes what it returns.
sub child {
	my ($fn) = @_;
	require POSIX;
	my $pid = open my $fh, '-|';
	if ($pid == 0) {
		print $fn->();
		close STDOUT;
		POSIX::_exit(0);
	}
	return $fh;
}

# ---- HTTP -----------------------------------------------------------------

# One request by HTTP::Tiny: {status, headers, content, json}. `json` in the
# options is sent as the body, `token` as bearer.
sub http {
	my ($method, $url, %o) = @_;
	require HTTP::Tiny;
	my %h = %{ $o{headers} // {} };
	my $content = $o{content};
	if (exists $o{json}) {
		$content = json_encode($o{json});
		$h{'content-type'} = 'application/json';
	}
	$h{authorization} = "Bearer $o{token}" if defined $o{token};
	my $r = HTTP::Tiny->new(timeout => ($o{timeout} // 20) * slowness(),
		max_redirect => 0)->request($method, $url, { headers => \%h,
		defined $content ? (content => $content) : () });
	$r->{json} = eval { json_decode($r->{content}) }
	    if ($r->{headers}{'content-type'} // '') =~ m{json};
	return $r;
}

# Send bytes on a new connection, read all answers: see Edgehaul::Raw.
sub request_bytes { require Edgehaul::Raw; Edgehaul::Raw::exchange(@_) }

1;
