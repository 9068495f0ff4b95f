# Memory.pm - a control group that holds a gateway to so much memory
#
# Needs the right to make one (version 1 or 2), which `why` tells. What files
# hold in the page cache counts too, but gives way; a tmpfs does not, so what
# runs here needs a folder on a disk.
package Edgehaul::Memory;
use strict;
use warnings;
use Test::More;

my $root = '/sys/fs/cgroup';
my $made = 0;
our $why; # there is none

# Version 2 has one tree; the group we are in may not be the place for more.
sub _places {
	my @places;
	for (split /\n/, eval { Edgehaul::slurp('/proc/self/cgroup') } // '') {
		my (undef, $what, $group) = split /:/, $_, 3;
		push @places, [$root . $group =~ s{/\z}{}r, 'memory.max',
			'memory.peak', 'memory.events'] if $what eq '';
	}
	push @places, [$root, 'memory.max', 'memory.peak', 'memory.events'],
	    ["$root/memory", 'memory.limit_in_bytes',
		'memory.max_usage_in_bytes', 'memory.oom_control'];
	return @places;
}

# undef: $why tells.
sub new {
	my ($class, $octets) = @_;
	for my $p (_places()) {
		my $dir = "$p->[0]/edgehaul-$$-" . ++$made;
		mkdir $dir or next;
		my $ok = eval {
			die "no limits\n" if !-e "$dir/$p->[1]";
			Edgehaul::spit("$dir/$p->[1]", $octets);
			# nothing of it in swap
			eval { Edgehaul::spit("$dir/$_", $octets) } for
			    'memory.memsw.limit_in_bytes';
			eval { Edgehaul::spit("$dir/memory.swap.max", 0) };
			1;
		};
		if (!$ok) {
			rmdir $dir;
			next;
		}
		my $self = bless { owner => $$, dir => $dir,
			peak => "$dir/$p->[2]", kills => "$dir/$p->[3]" },
		    $class;
		Edgehaul::register($self);
		return $self;
	}
	$why = 'kernel: no right to make a control group for memory';
	return undef;
}

sub name { 'memory' }

# Of the calling process, before it becomes a daemon.
sub join_it {
	my ($self) = @_;
	Edgehaul::spit("$self->{dir}/cgroup.procs", $$);
}

sub peak { Edgehaul::slurp($_[0]{peak}) + 0 }

# How often the kernel had to kill something.
sub kills {
	my ($self) = @_;
	return (Edgehaul::slurp($self->{kills}) =~ /^oom_kill (\d+)/m)[0] // 0;
}

sub stop_quietly {
	my ($self) = @_;
	return if $self->{owner} != $$ || $self->{gone};
	$self->{gone} = 1;
	Test::More::is($self->kills, 0, 'the gateway had enough memory');
	Edgehaul->wait_for(sub { rmdir $self->{dir} }, 5)
	    or diag("$self->{dir}: $!");
}

1;
