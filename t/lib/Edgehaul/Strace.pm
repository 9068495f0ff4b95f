# Strace.pm - make one system call of a process fail, or kill it there
#
# inject is what strace calls it: "signal=KILL", "error=EIO". `when` counts per
# system call and per thread: 3 is the third, "3+" that and all later ones.
package Edgehaul::Strace;
use strict;
use warnings;
use Edgehaul ();
use POSIX ();

# Why it cannot be used here, or undef.
sub lacks {
	return 'strace not installed (Debian: strace)'
	    if !Edgehaul::have('strace');
	my $ok = system('strace -qq -o /dev/null -e trace=fsync '
		. '-e inject=fsync:error=EIO:when=1 true >/dev/null 2>&1') == 0;
	return $ok ? undef : 'kernel: no ptrace';
}

sub options {
	my ($call, $inject, $when) = @_;
	return ('-qq', '-e', "trace=$call", '-e',
		"inject=$call:$inject" . ($when ? ":when=$when" : ''));
}

# Attach to a running process (all its threads, or just one: tid) until
# detach(); returns when it is attached. paths: log descriptors with paths.
sub attach {
	my ($class, $pid, $call, $inject, $when, %o) = @_;
	my $out = Edgehaul->dir('strace') . '/log';
	my $self = bless { owner => $$, out => $out }, $class;
	Edgehaul::spit($out, '');
	my $child = fork // die "fork: $!\n";
	if ($child == 0) {
		open STDERR, '>', "$out.err";
		exec 'strace', '-o', $out, $o{paths} ? '-y' : (), options($call, $inject, $when),
		    $o{tid} ? ('-p', $o{tid}) : ('-f', '-p', $pid)
		    or POSIX::_exit(127);
	}
	$self->{pid} = $child;
	my @want = $o{tid} ? ($o{tid})
	    : map { m{(\d+)$} } glob "/proc/$pid/task/*";
	Edgehaul::wait_for(sub {
		my $ready = 0;
		for my $t (@want) {
			my $s = eval { Edgehaul::slurp("/proc/$t/status") }
			    // 'TracerPid: 1';
			$ready++ if $s =~ /^(TracerPid:\s+[1-9]|State:\s+[ZX])/m;
		}
		return $ready == @want;
	}, 5) or die 'strace: ' . Edgehaul::slurp("$out.err");
	return $self;
}

# The calls it saw, one a line.
sub log { Edgehaul::slurp($_[0]{out}) }

sub detach {
	my ($self) = @_;
	return if !$self->{pid} || $self->{owner} != $$;
	my $pid = delete $self->{pid};
	kill 'TERM', $pid;
	return if Edgehaul::wait_for(
		sub { waitpid($pid, POSIX::WNOHANG()) != 0 }, 2);
	kill 'KILL', $pid; # it hangs on a thread that is half dead
	waitpid $pid, 0;
	return;
}

sub DESTROY {
	my ($self) = @_;
	local ($?, $!, $@);
	$self->detach;
}

1;
