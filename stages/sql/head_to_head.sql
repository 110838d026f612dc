-- Who wins head to head? Shares of the verdicts that could be read; lead is wins minus losses, low to high its 95 % interval (Wilson's, of the wins among the decided), null where nothing was decided.
-- by: model, other, decoding, judge
-- may lack: verdicts
WITH counts AS (
    SELECT
        model, other, decoding, judge,
        count(*) AS verdicts,
        count(verdict) AS n,
        count(*) FILTER (verdict = 'win') AS wins,
        count(*) FILTER (verdict = 'lose') AS losses,
        count(first) + count(second) AS readable,
        nullif(wins + losses, 0) AS decided,
    FROM verdicts
    GROUP BY ALL
), wilson AS (
    SELECT *,
        1.959964 ** 2 / decided AS z,
        (wins / decided + z / 2) / (1 + z) AS centre,
        sqrt(wins / decided * losses / decided * z + z ** 2 / 4) / (1 + z) AS half,
    FROM counts
)
SELECT
    model, other, decoding, judge, verdicts, n,
    wins / nullif(n, 0) AS win,
    (n - wins - losses) / nullif(n, 0) AS tie,
    losses / nullif(n, 0) AS lose,
    win - lose AS lead,
    (2 * (centre - half) - 1) * decided / n AS low,
    (2 * (centre + half) - 1) * decided / n AS high,
    readable,
FROM wilson
ORDER BY decoding, length(model), model, other <> 'SFT', length(other), other, judge
