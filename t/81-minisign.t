#!/usr/bin/perl
# lib/minisign beside the stock program: each reads what the other made.
use strict;
use warnings;
use Test::More;
use File::Temp qw(tempdir);

my $tool = "$ENV{TOP_BUILDDIR}/t/minisign_tool";
my $dir = tempdir(CLEANUP => 1);

plan skip_all => 'needs the program minisign (Debian: minisign)'
    if !grep { -x "$_/minisign" } split /:/, $ENV{PATH};

sub spew {
    my ($name, $text) = @_;
    open my $f, '>:raw', "$dir/$name" or die "$name: $!";
    print $f $text;
    close $f or die "$name: $!";
}

sub slurp {
    my ($name) = @_;
    open my $f, '<:raw', "$dir/$name" or die "$name: $!";
    local $/;
    return scalar <$f>;
}

# Exit code and output of a program in $dir, $in on its stdin.
sub run {
    my ($in, @cmd) = @_;
    spew('in', $in);
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        chdir $dir or die;
        open STDIN, '<', 'in' or die;
        open STDOUT, '>', 'out' or die;
        open STDERR, '>&', \*STDOUT or die;
        exec @cmd or exit 127;
    }
    waitpid $pid, 0;
    return ($? >> 8, slurp('out'));
}

sub ok_run {
    my ($name, @cmd) = @_;
    my ($rc, $out) = run(@cmd);
    ok($rc == 0, $name) or diag $out;
    return $out;
}

sub fails {
    my ($error, $name, @cmd) = @_;
    my ($rc, $out) = run('', @cmd);
    is "$rc $out", "1 $error\n", $name;
}

spew('data', join '', map { chr($_ * 7 % 251) } 1 .. 300_000);
spew('empty', '');
my $password = 'correct horse';

# Keys of the program, with and without a password, read by us.
ok_run('minisign -G -W', '', qw(minisign -G -W -p their.pub -s their.key));
ok_run('minisign -G', "$password\n$password\n",
    qw(minisign -G -p locked.pub -s locked.key));
for my $file ('data', 'empty') {
    ok_run("minisign signs $file", '', qw(minisign -S -s their.key -m), $file,
        '-x', 'a.sig', '-t', 'edgehaul seq:12');
    is ok_run("we take it", '', $tool, 'verify', $file, 'a.sig', 'their.pub'),
        "edgehaul seq:12\n", 'with its comment';
    ok_run("we sign $file with its key", '', $tool, 'sign', 'their.key', $file,
        'b.sig', 'from us');
    like ok_run('minisign takes it', '', qw(minisign -V -p their.pub -m),
        $file, '-x', 'b.sig'), qr/Trusted comment: from us/, 'with comment';
}
ok_run('we sign with its locked key', '', $tool, 'sign', 'locked.key', 'data',
    'b.sig', 'x', $password);
ok_run('minisign takes it', '',
    qw(minisign -V -p locked.pub -m data -x b.sig));
fails('EACCES', 'wrong password', $tool, 'sign', 'locked.key', 'data', 'b.sig',
    'x', "$password ");
fails('EACCES', 'no password', $tool, 'sign', 'locked.key', 'data', 'b.sig',
    'x');
my ($rc) = run('', qw(minisign -V -p their.pub -m data -x b.sig));
isnt $rc, 0, 'its key is not the other';

# Keys of ours, read by the program.
ok_run('we make a pair', '', $tool, qw(generate our.pub our.key));
ok_run('and one with a password', '', $tool, qw(generate ours.pub ours.key),
    $password);
ok_run('minisign signs with our key', '',
    qw(minisign -S -s our.key -m data -x c.sig -t c));
is ok_run('we take it', '', $tool, qw(verify data c.sig ours.pub our.pub)),
    "c\n", 'by the second of two keys';
ok_run('minisign signs with our locked key', "$password\n",
    qw(minisign -S -s ours.key -m data -x d.sig -t d));
ok_run('minisign takes its own by our public key', '',
    qw(minisign -V -p ours.pub -m data -x d.sig));
($rc) = run("wrong\n", qw(minisign -S -s ours.key -m data -x e.sig));
isnt $rc, 0, 'minisign tells a wrong password by our sum';
like slurp('our.pub'), qr/\Auntrusted comment: minisign public key [0-9A-F]{16}\n/,
    'the comment of the program';

# The old algorithm, over the file itself.
ok_run('minisign -l', '', qw(minisign -S -l -s their.key -m data -x l.sig));
ok_run('is read too', '', $tool, qw(verify data l.sig their.pub));

# What must not pass.
fails('ENOKEY', 'another key', $tool, qw(verify data a.sig our.pub));
ok_run('minisign signs data', '',
    qw(minisign -S -s their.key -m data -x a.sig -t comment));
spew('bent', slurp('data') =~ s/\A./z/sr);
fails('EBADMSG', 'other data', $tool, qw(verify bent a.sig their.pub));
my @line = split /\n/, slurp('a.sig');
spew('t.sig', join("\n", @line[0, 1], 'trusted comment: seq:99', $line[3], ''));
fails('EBADMSG', 'another comment', $tool, qw(verify data t.sig their.pub));
my @other = split /\n/, slurp('c.sig');
spew('t.sig', join("\n", @line[0 .. 2], $other[3], ''));
fails('EBADMSG', 'the second signature of another', $tool,
    qw(verify data t.sig their.pub));
for my $bad ('', "\n\n\n\n", 'x' x 5000, join("\n", @line[0 .. 2]),
    join("\n", $line[0], substr($line[1], 4), @line[2, 3]),
    join("\n", $line[0], "$line[1]AAAA", @line[2, 3]),
    join("\n", $line[0], 'A' . substr($line[1], 1), @line[2, 3]),
    join("\n", @line[0, 1], 'trusted comment: ' . 'x' x 1024, $line[3])) {
    spew('t.sig', $bad);
    fails('EINVAL', 'no signature: ' . substr($bad =~ tr/\n/|/r, 0, 40), $tool,
        qw(verify data t.sig their.pub));
}
spew('bad.pub', "untrusted comment: x\n" . 'A' x 56 . "\n");
fails('EINVAL', 'no public key', $tool, qw(verify data a.sig bad.pub));
spew('bare.pub', (split /\n/, slurp('their.pub'))[1]);
ok_run('the second line alone is one', '', $tool,
    qw(verify data a.sig bare.pub));
my ($head, $key) = split /\n/, slurp('their.key');
substr($key, 120, 1) = substr($key, 120, 1) eq 'B' ? 'C' : 'B';
spew('bad.key', "$head\n$key\n");
fails('EINVAL', 'a bent secret key', $tool, qw(sign bad.key data t.sig x));
done_testing;
