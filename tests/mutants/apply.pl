#!/usr/bin/env perl
# Applies a defect to the checkout in the current folder. In the file that the patch names, which must be the only one of that name under src, the
# - lines are replaced by the + lines. Lines that begin with a space are context. The lines to be replaced must occur in the file exactly once.
#
#   tests/mutants/apply.pl tests/mutants/01-pullback-sign.patch
use strict;
use warnings;
use File::Find;

my ($patch) = @ARGV;
open(my $in, '<', $patch) or die "$patch: $!\n";
local $/;
my ($header, $body) = split(/\n\n/, <$in>, 2);
close($in);
my ($name) = $header =~ /^File: (.+)$/m or die "$patch: a line \"File: name\" is missing\n";
my ($old, $new) = ('', '');
for my $line (split(/\n/, $body)) {
    $old .= substr($line, 1) . "\n" if $line =~ /^[ -]/;
    $new .= substr($line, 1) . "\n" if $line =~ /^[ +]/;
}

my @files;
find(sub { push @files, $File::Find::name if $_ eq $name }, 'src');
die "$patch: there are " . scalar(@files) . " files $name under src, one is expected\n" unless @files == 1;
open(my $source, '<', $files[0]) or die "$files[0]: $!\n";
my $text = <$source>;
close($source);
my $count = () = $text =~ /^\Q$old\E/mg;
die "$patch: its lines stand in $files[0] $count times, once is expected\n" unless $count == 1;
$text =~ s/^\Q$old\E/$new/m;
open(my $out, '>', $files[0]) or die "$files[0]: $!\n";
print $out $text;
close($out);
print "$files[0]\n";
