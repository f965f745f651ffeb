using Tiller.Law;

namespace Tiller.Decode;

/// <summary>What a law read and did at one token.</summary>
/// <param name="Law">The law that was at work: of another λ than the text's first, it may be, but for the same model.</param>
public sealed record TokenSteering(FeedbackLaw Law)
{
    private readonly float[] _errors = new float[Law.Sensors.Count];
    private readonly float[] _inputNorms = new float[Law.Layers];
    private readonly float[] _stateNorms = new float[Law.Layers];

    /// <summary>The error e of every sensor of the law, β − v·x of a setpoint // (sensors).</summary>
    public ReadOnlySpan<float> Errors => _errors;

    /// <summary>|u_k| of every layer; 0 where the law has no term // (L).</summary>
    public ReadOnlySpan<float> InputNorms => _inputNorms;

    /// <summary>|x_k| of every layer; 0 where the law has no term // (L).</summary>
    public ReadOnlySpan<float> StateNorms => _stateNorms;

    /// <summary>What the last steered row of a step saw.</summary>
    internal static TokenSteering Last(SteeringState state)
    {
        var read = new TokenSteering(state.Law);
        int slot = state.Slots - 1;
        state.ReadErrors(slot, read._errors);
        state.ReadEffort(slot, read._inputNorms, read._stateNorms);
        return read;
    }
}
