# Disk.pm - an ext4 on a disk that remembers each write, for power cuts
#
# The disk is t/crash/wlog.c under nbdkit, made a file by nbdfuse and a block
# device by a loop device, so the kernel's own file system decides what is
# written when. offset() is the place in the log now: what was answered at
# offset O must be on every image cut at O or later. image() makes such an
# image, t/crash/replay.c says how.
#
# auto_da_alloc is off and the commit interval long: the file system is to
# forgive nothing.
package Edgehaul::Disk;
use strict;
use warnings;
use Edgehaul ();
use Edgehaul::Daemon;
use POSIX ();
use Test::More;

my @options = qw(noauto_da_alloc commit=60 noatime nodev nosuid);

# Why it cannot be used here, or undef. Says so in the words of a SKIP.
sub lacks {
	my $tools = Edgehaul::top_builddir() . '/t/crash';
	for ([qw(nbdkit nbdkit)], [qw(nbdfuse libnbd-bin)],
		[qw(fusermount3 fuse3)], [qw(mkfs.ext4 e2fsprogs)],
		[qw(losetup mount)]) {
		return "$_->[0] not installed (Debian: $_->[1])"
		    if !Edgehaul::have($_->[0]);
	}
	return 'built without nbdkit-plugin.h (Debian: nbdkit-plugin-dev)'
	    if !-e "$tools/wlog.so";
	return 'kernel: only root can mount' if $> != 0;
	return 'kernel: no FUSE' if !-w '/dev/fuse';
	return 'kernel: no loop devices' if !-w '/dev/loop-control';
	my ($loop) = `losetup -f 2>/dev/null` =~ m{^(/dev/loop\d+)};
	return 'kernel: no free loop device' if !$loop;
	return undef;
}

sub _run {
	my (@cmd) = @_;
	my ($rc, $out, $err) = Edgehaul::Daemon->run(@cmd);
	die "@cmd: exit $rc\n$out$err" if $rc != 0;
	chomp $out;
	return $out;
}

# mb: size. A fresh file system, mounted.
sub new {
	my ($class, %o) = @_;
	my $dir = Edgehaul->dir('disk');
	my $self = bless { owner => $$, dir => $dir, base => "$dir/base.img",
		log_file => "$dir/writes.log", mnt => "$dir/mnt",
		replay => Edgehaul::top_builddir() . '/t/crash/replay' },
	    $class;
	mkdir $self->{mnt};
	_run('truncate', '-s', ($o{mb} // 64) . 'M', $self->{base});
	_run('mkfs.ext4', '-q', '-F', '-m', 0, '-E', 'lazy_itable_init=0',
		$self->{base});
	$self->_attach;
	Edgehaul::register($self);
	return $self;
}

sub _attach {
	my ($self) = @_;
	my $file = "$self->{dir}/nbd";
	Edgehaul::spit($file, '');
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0) {
		open STDOUT, '>', "$self->{dir}/nbd.log";
		open STDERR, '>&', \*STDOUT;
		setpgrp;
		exec 'nbdfuse', $file, '--command', 'nbdkit', '-s',
		    '--exit-with-parent',
		    Edgehaul::top_builddir() . '/t/crash/wlog.so',
		    "file=$self->{base}", "log=$self->{log_file}"
		    or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	Edgehaul::wait_for(sub { -s $file }, 10)
	    or die "nbdfuse: " . Edgehaul::slurp("$self->{dir}/nbd.log");
	$self->{loop} = _run('losetup', '-f', '--show', $file);
	_run('mount', '-o', join(',', @options), $self->{loop}, $self->{mnt});
	$self->{mounted} = 1;
}

sub name { 'disk' }
sub mnt { $_[0]{mnt} }
sub log_file { $_[0]{log_file} }
sub offset { -s $_[0]{log_file} }

# The place, kind and time (s) of each record so far.
sub records {
	my ($self) = @_;
	return map { my @r = split ' '; { at => $r[0], op => $r[1],
		time => $r[2] / 1e9 } } split /\n/,
	    _run($self->{replay}, $self->{log_file}, 'offsets');
}

# The disk as a power cut at that place would have left it: its path, and the
# time of the last record on it.
sub image {
	my ($self, $at, $mode, $seed) = @_;
	my $out = "$self->{dir}/cut.img";
	my (undef, undef, $ns) = split ' ', _run($self->{replay},
		$self->{base}, $self->{log_file}, $at, $out, $mode, $seed);
	return ($out, $ns / 1e9);
}

# Mount an image at a folder of its own; false if the kernel cannot.
sub mount_image {
	my ($self, $image) = @_;
	my $at = "$self->{dir}/cut";
	mkdir $at;
	my ($rc) = Edgehaul::Daemon->run('mount', '-o', 'loop,'
		. join(',', @options), $image, $at);
	return $rc == 0 ? $at : undef;
}

sub umount_image {
	my ($self) = @_;
	_umount("$self->{dir}/cut");
}

sub _umount {
	my ($at) = @_;
	my $ok = Edgehaul::wait_for(
		sub { (Edgehaul::Daemon->run('umount', $at))[0] == 0 }, 10);
	diag("cannot unmount $at") if !$ok;
	return $ok;
}

sub stop_quietly {
	my ($self) = @_;
	return if $self->{owner} != $$ || $self->{gone};
	$self->{gone} = 1;
	$self->umount_image
	    if `cat /proc/mounts` =~ m{ \Q$self->{dir}\E/cut };
	_umount($self->{mnt}) if $self->{mounted};
	Edgehaul::Daemon->run('losetup', '-d', $self->{loop})
	    if $self->{loop};
	Edgehaul::Daemon->run('fusermount3', '-u', "$self->{dir}/nbd");
	return if !$self->{pid};
	Edgehaul::wait_for(
		sub { waitpid($self->{pid}, POSIX::WNOHANG()) != 0 }, 5)
	    or kill 'KILL', $self->{pid};
}

sub DESTROY {
	my ($self) = @_;
	local ($?, $!, $@);
	$self->stop_quietly;
}

1;
