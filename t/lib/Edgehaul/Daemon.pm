# Daemon.pm - one process that a test starts, watches and ends
#
# The log (stderr) grows over restarts; `ready` and the listeners are looked
# for in what the newest start wrote. A daemon dies with the test, whatever
# ends the test (PR_SET_PDEATHSIG by setpriv).
package Edgehaul::Daemon;
use strict;
use warnings;
use POSIX ();
use Time::HiRes ();
use Test::More;

my $runs = 0; # of run()

# name, program (path), args, dir (for the log), uid, gid (numbers; of root),
# memory (see Memory.pm).
sub new {
	my ($class, %o) = @_;
	my $self = bless { owner => $$, %o, mark => 0, ports => {} }, $class;
	$self->{log_file} = "$self->{dir}/$self->{name}.log";
	Edgehaul::spit($self->{log_file}, '');
	Edgehaul::register($self);
	return $self;
}

sub name { $_[0]{name} }
sub pid { $_[0]{pid} }
sub log { Edgehaul::slurp($_[0]{log_file}) }

# What the newest start has logged.
sub new_log { substr $_[0]->log, $_[0]{mark} }

# HOST:PORT of a listener.
sub address {
	my ($self, $listener) = @_;
	return $self->{ports}{$listener}
	    // die "$self->{name} does not listen as $listener\n";
}

sub _wrap {
	my ($self) = @_;
	return split ' ', $ENV{"EDGEHAUL_\U$self->{short}\E_WRAP"}
	    // $ENV{EDGEHAUL_WRAP} // '';
}

sub _command {
	my ($self) = @_;
	my @cmd = ($self->_wrap, $self->{program}, @{ $self->{args} });
	unshift @cmd, 'setpriv', '--pdeathsig', 'TERM'
	    if Edgehaul::have('setpriv');
	unshift @cmd, 'setpriv', "--reuid=$self->{uid}",
	    "--regid=$self->{gid}", '--clear-groups' if defined $self->{uid};
	return @cmd;
}

sub _environment {
	my ($self) = @_;
	my $where = Edgehaul->dir;
	my $leaks = $self->_wrap ? 0 : 1; # it cannot look under ptrace
	$ENV{ASAN_OPTIONS} = join ':', $ENV{ASAN_OPTIONS} // (),
	    "log_path=$where/san.$self->{name}", "detect_leaks=$leaks";
	$ENV{UBSAN_OPTIONS} = join ':', $ENV{UBSAN_OPTIONS} // (),
	    "log_path=$where/san.$self->{name}", 'print_stacktrace=1';
	delete $ENV{JOURNAL_STREAM};
	umask 0007 if defined $self->{uid};
}

# Start it without waiting. stdout goes to the log as well.
sub launch {
	my ($self) = @_;
	die "$self->{name} runs\n" if $self->{pid};
	die "$self->{program}: not built\n" if !-x $self->{program};
	$self->{mark} = -s $self->{log_file};
	my @cmd = $self->_command;
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $self->{log_file};
		open STDERR, '>&', \*STDOUT;
		$self->_environment;
		$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
		$self->{memory}->join_it if $self->{memory};
		{ exec { $cmd[0] } @cmd }
		print STDERR "exec $cmd[0]: $!\n";
		POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	delete $self->{status};
	return $self;
}

# Start it and wait until it says that it is ready; dies if it does not.
sub start {
	my ($self) = @_;
	$self->launch;
	my $ok = Edgehaul::wait_for(sub {
		return 'over' if !$self->running;
		return $self->new_log =~ /^\S+ +(?:info\s+)?.*\bready\b.*\n/m;
	}, 20);
	if (!$ok || $ok eq 'over') {
		my $how = $ok ? "ended ($self->{status})" : 'is not ready';
		die "$self->{name} $how:\n" . $self->new_log . "\n";
	}
	my $log = $self->new_log;
	$self->{ports} = {};
	$self->{ports}{$1} = $2
	    while $log =~ /listening name=(\S+) address=(\S+)/g;
	return $self;
}

sub running {
	my ($self) = @_;
	return 0 if !$self->{pid};
	return 1 if waitpid($self->{pid}, POSIX::WNOHANG()) == 0;
	$self->{status} = $?;
	delete $self->{pid};
	return 0;
}

sub signal {
	my ($self, $sig) = @_;
	kill $sig, $self->{pid} if $self->{pid};
	return $self;
}

sub hup { $_[0]->signal('HUP') }

# SIGHUP, until the settings are taken or refused; true if they are taken.
sub reload {
	my ($self) = @_;
	my $said = () = $self->log =~ /\breload(?:ed| refused)\b/g;
	$self->hup;
	my @now;
	Edgehaul::wait_for(sub {
		@now = $self->log =~ /\breload(ed| refused)\b/g;
		return @now > $said;
	});
	return @now > $said && $now[-1] eq 'ed';
}

sub kill9 {
	my ($self) = @_;
	return $self if !$self->running;
	$self->signal('KILL');
	waitpid $self->{pid}, 0;
	delete $self->{pid};
	return $self;
}

# SIGTERM; true if it ended within the promised time by itself with exit 0.
sub stop {
	my ($self) = @_;
	return 0 if !$self->running;
	$self->signal('TERM');
	if (!Edgehaul::wait_for(sub { !$self->running }, 6)) {
		diag("$self->{name} does not end on SIGTERM");
		$self->kill9;
		return 0;
	}
	return 1 if $self->{status} == 0;
	diag("$self->{name} ended with status $self->{status}");
	return 0;
}

# At the end of a test: a daemon that hangs or has died is a failure.
sub stop_quietly {
	my ($self) = @_;
	return if $self->{owner} != $$ || $self->{gone};
	$self->{gone} = 1;
	if ($self->{pid} && !$self->running) {
		Test::More::fail("$self->{name} ended by itself");
		diag("status $self->{status}");
	} elsif ($self->{pid}) {
		$self->stop or Test::More::fail("$self->{name} stops cleanly");
	}
}

sub DESTROY {
	my ($self) = @_;
	local ($?, $!, $@);
	return if $self->{owner} != $$ || !$self->{pid};
	$self->signal('TERM');
	for (1 .. 60) {
		return if !$self->running;
		Time::HiRes::sleep(0.1);
	}
	$self->kill9;
}

# kB of a line of /proc/PID/status (RssAnon, VmHWM, Threads...).
sub proc {
	my ($self, $field) = @_;
	my $s = Edgehaul::slurp("/proc/$self->{pid}/status");
	return ($s =~ /^$field:\s+(\d+)/m)[0];
}

# Run a program to its end: (exit status, stdout, stderr).
sub run {
	my (undef, @cmd) = @_;
	my $base = Edgehaul->dir . "/run.$$." . ++$runs;
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', "$base.out";
		open STDERR, '>', "$base.err";
		{ exec { $cmd[0] } @cmd }
		print STDERR "exec $cmd[0]: $!\n";
		POSIX::_exit(127);
	}
	my $status;
	my $done = Edgehaul::wait_for(
	    sub { waitpid($pid, POSIX::WNOHANG()) == $pid
		and defined($status = $?) }, 60);
	if (!$done) {
		kill 'KILL', $pid;
		waitpid $pid, 0;
		$status = 9;
	}
	my @r = ($status & 127 ? 128 + ($status & 127) : $status >> 8,
	    map { Edgehaul::slurp("$base.$_") } qw(out err));
	unlink "$base.out", "$base.err";
	return @r;
}

1;
