using Tiller.Law;

namespace Tiller.Decode;

/// <summary>Mean tracking error and effort over the steered tokens and layers of a text.</summary>
public sealed class SteeringSummary
{
    private FeedbackLaw _law;
    private readonly float[] _inputNorms;
    private readonly float[] _stateNorms;
    private float[] _errors = []; // (sensors of the law)
    private double _error;
    private double _input;
    private double _relative;
    private long _errorCount;
    private long _inputCount;

    /// <summary>Creates an empty summary.</summary>
    public SteeringSummary(FeedbackLaw law)
    {
        _law = law;
        _inputNorms = new float[law.Layers];
        _stateNorms = new float[law.Layers];
    }

    /// <summary>Mean |e| over the steered tokens and the sensors that terms feed back. For a setpoint, |e| = |β − v·x|.</summary>
    public double TrackingError => _errorCount == 0 ? 0 : _error / _errorCount;

    /// <summary>Mean |u| over steered tokens and layers.</summary>
    public double InputNorm => _inputCount == 0 ? 0 : _input / _inputCount;

    /// <summary>Mean |u|/|x| over steered tokens and layers.</summary>
    public double Effort => _inputCount == 0 ? 0 : _relative / _inputCount;

    /// <summary>Which conditions on the prompt were met, of the law that steered last; empty of a law without.</summary>
    public IReadOnlyList<bool> Decisions => _law.Decisions;

    /// <summary>Adds the rows of the last step, steered by this law or by another law for the same model.</summary>
    public void Add(SteeringState steering)
    {
        _law = steering.Law;
        _errors = _errors.Length == _law.Sensors.Count ? _errors : new float[_law.Sensors.Count];
        for (int slot = 0; slot < steering.Slots; slot++)
        {
            steering.ReadErrors(slot, _errors);
            foreach (int sensor in _law.FedBack())
            {
                _error += Math.Abs(_errors[sensor]);
                _errorCount++;
            }

            steering.ReadEffort(slot, _inputNorms, _stateNorms);
            for (int k = 0; k < _inputNorms.Length; k++)
            {
                if (_law.Moves(k))
                {
                    _input += _inputNorms[k];
                    _relative += _stateNorms[k] > 0 ? _inputNorms[k] / _stateNorms[k] : 0;
                    _inputCount++;
                }
            }
        }
    }

    /// <summary>Becomes equal to another summary, of a text that was steered alike so far.</summary>
    internal void Take(SteeringSummary other)
    {
        _law = other._law;
        Clear();
        Add(other);
    }

    /// <summary>Forgets everything added.</summary>
    internal void Clear()
    {
        (_error, _input, _relative) = (0, 0, 0);
        (_errorCount, _inputCount) = (0, 0);
    }

    /// <summary>Adds the sums of another text, so that each of its tokens has the same weight as a token of this text.</summary>
    public void Add(SteeringSummary other)
    {
        _error += other._error;
        _input += other._input;
        _relative += other._relative;
        _errorCount += other._errorCount;
        _inputCount += other._inputCount;
    }
}
