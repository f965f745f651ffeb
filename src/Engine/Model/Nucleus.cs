namespace Tiller.Model;

/// <summary>Finds the last token of the top-p set by selection, without sorting the vocabulary; expected time O(n).</summary>
internal static class Nucleus
{
    // Keys ascend as weights fall and then as ids rise: the bits of nonnegative floats are in the order of the numbers.
    public static ulong Key(float weight, int id) => ((ulong)~BitConverter.SingleToUInt32Bits(weight) << 32) | (uint)id;

    public static float Weight(ulong key) => BitConverter.UInt32BitsToSingle(~(uint)(key >> 32));

    // The smallest key such that all keys up to it have a total weight of at least `mass`; ulong.MaxValue if the total weight of all keys is less.
    // Reorders keys.
    public static ulong Last(Span<ulong> keys, double mass)
    {
        ulong best = ulong.MaxValue;
        while (keys.Length > 0)
        {
            int pivot = Partition(keys);
            double upTo = 0;
            foreach (ulong key in keys[..(pivot + 1)])
            {
                upTo += Weight(key);
            }

            if (upTo >= mass)
            {
                best = keys[pivot];
                keys = keys[..pivot];
            }
            else
            {
                mass -= upTo;
                keys = keys[(pivot + 1)..];
            }
        }

        return best;
    }

    // Lomuto's partition around the median of the first, middle and last key; returns the pivot's final index.
    private static int Partition(Span<ulong> keys)
    {
        int end = keys.Length - 1;
        int middle = end / 2;
        ulong a = keys[0], b = keys[middle], c = keys[end];
        int pivot = a < b ? (b < c ? middle : a < c ? end : 0) : (a < c ? 0 : b < c ? end : middle);
        (keys[pivot], keys[end]) = (keys[end], keys[pivot]);
        ulong value = keys[end];
        int place = 0;
        for (int i = 0; i < end; i++)
        {
            ulong key = keys[i];
            keys[i] = keys[place];
            keys[place] = key;
            place += key < value ? 1 : 0;
        }

        (keys[place], keys[end]) = (keys[end], keys[place]);
        return place;
    }
}
