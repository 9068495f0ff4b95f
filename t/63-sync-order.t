#!/usr/bin/perl
# Each 201 comes after the syncs that it needs on any file system
#
# A power cut on one file system shows only what that one forgives: ext4 makes
# many a name durable that nobody synced. So the system calls of a first start
# and some uploads are read, and held against the rules that hold everywhere:
# what was written is durable after a sync of the file, a name (of a new file,
# a new folder, after a rename) after a sync of the folder it is in.
use strict;
use warnings;
use Edgehaul;
use Edgehaul::Strace;
use Test::More;

my $why = Edgehaul::Strace->lacks;
plan(skip_all => $why)
    if defined $why && (!$ENV{EDGEHAUL_REQUIRED} || $why =~ /^kernel:/);
die "$why\n" if defined $why;
$ENV{ASAN_OPTIONS} = 'detect_leaks=0';

# A gateway whose state_dir is not there yet: the calls of its first start and
# of three uploads.
my $gw;

sub trace_of {
	my ($state_dir) = @_;
	my $trace = Edgehaul->dir('trace') . '/calls';
	$gw = Edgehaul->gateway(signer => 'http://127.0.0.1:9', conf => {
		gateway => { state_dir => $state_dir },
		spool => { max_size => '64 MB', index_size => '1 MB' } });
	# y: descriptors with their paths; s: enough to see an answer's id.
	local $ENV{EDGEHAUL_PROXY_WRAP} = "strace -f -qq -y -s 600 -o $trace -e "
	    . 'trace=openat,mkdir,mkdirat,rename,renameat,renameat2,pwritev,'
	    . 'pwrite64,write,fsync,fdatasync,sendto,sendmsg,writev,unlinkat';
	$gw->proxy->start;
	for my $n (1 .. 3) {
		my $r = $gw->put("/upload/cam-1/$n.bin", 'x' x (900_000 * $n));
		is($r && $r->{status}, 201, "upload $n is accepted");
	}
	my ($pid) = $gw->proxy->log =~ /\bready\b.*pid=(\d+)/;
	kill 'TERM', $pid;
	wait_for(sub { !$gw->proxy->running });
	return slurp($trace);
}

# ---- the calls, one after the other ------------------------------------------
# Threads' calls are split into their beginning and their end; what counts is
# when a sync had ended and when a change had begun.
my (%begun, %dirty, %unsynced, @answers);

# The path of the descriptor that comes first.
sub fd_path { $_[0] =~ /^\s*\d+<([^>]*)>/ ? $1 : '' }

# The paths of names, each below the folder before it if it is relative.
sub name_paths {
	my ($args) = @_;
	my @p;
	while ($args =~ /(?:(?:AT_FDCWD|\d+)<([^>]*)>,\s*)?"((?:[^"\\]|\\.)*)"/g) {
		my ($folder, $name) = ($1 // '', $2);
		push @p, $name =~ m{^/} ? $name : "$folder/$name";
	}
	return @p;
}

sub parent { my ($p) = @_; $p =~ s{/[^/]*$}{}; return $p }
sub made { my ($p) = @_; $unsynced{$p} = 1 }

# What is not durable of an item: its octets, its name, or one above it.
sub lacking {
	my ($path) = @_;
	my @lack;
	push @lack, "the content of $path" if $dirty{$path};
	for (my $p = $path; $p =~ m{/.}; $p = parent($p)) {
		push @lack, "the name of $p" if $unsynced{$p};
	}
	return @lack;
}

sub on_call {
	my ($call, $args, $rc) = @_;
	return if $rc < 0;
	my @p = $call =~ /write|sync/ ? fd_path($args) : name_paths($args);
	if ($call =~ /^mkdir/) {
		made($p[0]);
	} elsif ($call eq 'openat') {
		made($p[0]) if $args =~ /O_CREAT/ && $args =~ /O_EXCL/;
	} elsif ($call =~ /^rename/) {
		my ($from, $to) = @p;
		delete $unsynced{$from};
		$dirty{$to} = delete $dirty{$from};
		made($to);
	} elsif ($call =~ /^pwrite/ || $call eq 'write') {
		$dirty{ $p[0] } = 1 if $p[0] =~ m{^/};
	} elsif ($call =~ /sync$/) {
		$dirty{ $p[0] } = 0;
		delete $unsynced{$_}
		    for grep { parent($_) eq $p[0] } keys %unsynced;
	}
}

sub on_answer {
	my ($args) = @_;
	return if $args !~ /HTTP.1\.1 201/;
	my ($id) = $args =~ /\\"id\\":\\"([0-9a-f]{32})/ or return;
	my $seq = substr $id, 16;
	my $path = $gw->{conf}{gateway}{state_dir} . '/spool/item/'
	    . substr($seq, 0, 13) . "/$seq";
	push @answers, [$id, -e $path, lacking($path)];
}

sub read_trace {
	(%begun, %dirty, %unsynced, @answers) = ();
	for (split /\n/, $_[0]) {
		my ($tid, $rest) = /^(\d+)\s+(.*)/ or next;
		if (my ($call, $args) = $rest =~ /^(\w+)\((.*) <unfinished \.\.\.>$/) {
			$begun{$tid} = $args;
			on_answer($args) if $call =~ /^(send|writev)/;
			# A change counts from its beginning, a sync from its end, and
			# so does a folder: it may be there already.
			on_call($call, $args, 0)
			    if $call !~ /sync$|^rename|^mkdir|^send/;
		} elsif (($call, $args, my $rc)
			= $rest =~ /^<\.\.\. (\w+) resumed>(.*)\)\s+= (-?\d+)/) {
			on_call($call, delete($begun{$tid}) . $args, $rc)
			    if $call =~ /sync$|^rename|^mkdir/;
		} elsif (($call, $args, $rc)
			= $rest =~ /^(\w+)\((.*)\)\s+= (-?\d+)/) {
			on_answer($args) if $call =~ /^(send|writev)/;
			on_call($call, $args, $rc);
		}
	}
}

for my $new ('/a', '/b/c') {
	read_trace(trace_of(Edgehaul->dir('box') . $new));
	is(scalar(@answers), 3, 'three answers were seen');
	for (@answers) {
		my ($id, $there, @lack) = @$_;
		ok($there, "$id is where it was looked for");
		is(join(', ', @lack), '', 'before its answer all of it was durable');
	}
	# Nothing may lean on what this test cannot see: the names above are known.
	cmp_ok(scalar(grep { m{/item/[0-9a-f]{13}/} } keys %dirty), '>=', 3,
		'writes and syncs of items were seen');
}
finish;
