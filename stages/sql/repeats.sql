-- What comes again? Kept prompts that an earlier iteration kept too (case and blanks apart), and answers whose text their own prompt, or an earlier iteration, has already.
-- by: model
WITH asked AS (
    SELECT model, length(model) AS l,
        lower(trim(CASE WHEN regexp_matches(prompt, '\s\s|[^\S ]') THEN regexp_replace(prompt, '\s+', ' ', 'g') ELSE prompt END)) AS text
    FROM prompts WHERE dropped IS NULL
), first_asked AS (
    SELECT text, min((l, model)) AS first FROM asked GROUP BY text
), by_prompts AS (
    SELECT model, count(*) AS prompts, count(*) FILTER (first <> (l, model)) AS asked_before FROM asked JOIN first_asked USING (text) GROUP BY model
), said AS MATERIALIZED (
    SELECT model, length(model) AS l, hash(response) AS text, count(*) AS n FROM candidates GROUP BY model, hash(prompt_id), hash(response)
), first_said AS MATERIALIZED (
    SELECT text, min((l, model)) AS first FROM said GROUP BY text
), by_answers AS (
    SELECT model, sum(n)::BIGINT AS answers, sum(n - 1)::BIGINT AS same_for_a_prompt, coalesce(sum(n) FILTER (first <> (l, model)), 0)::BIGINT AS said_before
    FROM said JOIN first_said USING (text)
    GROUP BY model
)
SELECT * FROM by_prompts LEFT JOIN by_answers USING (model) ORDER BY length(model), model
